// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/human.hpp"
#include "cli/usage_report.hpp"
#include "observe/usage_book.hpp"

#include <array>
#include <chrono>
#include <climits>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "daemon/state_directory.hpp"

namespace vfio_shim::cli {

namespace {

struct UsageOptions {
  std::vector<std::string> files;
  std::string state = daemon::default_state_directory;
  bool json = false;
};

std::string name_of_this_host() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

Result<ProgramsOnHosts> merge(const std::vector<std::string> &files) {
  ProgramsOnHosts programs;
  for (const std::string &file : files) {
    std::ifstream in(file);
    std::string text;
    if (!in || !std::getline(in, text, '\0'))
      return fail(ENOENT, fmt::format("{}: cannot be read, or is empty", file));
    VFIO_SHIM_TRY(add_usage_json(programs, text, file));
  }
  return programs;
}

int usage_of_many(const UsageOptions &options) {
  const auto programs = merge(options.files);
  if (!programs) {
    std::cerr << "vfio-shim: " << printable(programs.error().where) << '\n';
    return exit_usage;
  }
  if (options.json)
    std::cout << usage_json(*programs, "").dump(2) << '\n';
  else if (programs->empty())
    std::cout << "no program has used the legacy API on these hosts\n";
  else
    std::cout << usage_text(*programs, std::chrono::system_clock::now());
  return exit_ok;
}

int usage(const UsageOptions &options) {
  if (!options.files.empty())
    return usage_of_many(options);
  const auto file = observe::usage_file(options.state);
  auto book = observe::UsageBook::load(file);
  if (!book && book.error().code != ENOENT) {
    const bool bad = book.error().code == EBADMSG || book.error().code == EPROTO;
    std::cerr << "vfio-shim: "
              << (bad ? book.error().where
                      : fmt::format("{}: {}", file.string(), errno_name(book.error().code)))
              << '\n';
    return bad ? exit_usage : exit_failure;
  }
  if (options.json) {
    std::cout << usage_json(programs_here(book.value_or(observe::UsageBook{})), name_of_this_host())
                     .dump(2)
              << '\n';
    return exit_ok;
  }
  if (!book || book->empty())
    std::cout << fmt::format("{}: no program has used the legacy API yet\n", file.string());
  else
    std::cout << usage_text(programs_here(*book), std::chrono::system_clock::now());
  return exit_ok;
}

} // namespace

void add_usage(CommandLine &line) {
  auto options = std::make_shared<UsageOptions>();
  auto *command = line.app.add_subcommand(
      "usage", "Show which programs have used what of the legacy API, and what keeps each from "
               "running natively on iommufd");
  auto *files = command->add_option(
      "FILE", options->files, "What `usage --json` wrote on several hosts, to be put together");
  command->add_option("--state", options->state, "Directory in which the daemons note it")
      ->capture_default_str()
      ->excludes(files);
  command->add_flag("--json", options->json, "For programs");
  command->callback([&line, options] { line.chosen = [options] { return usage(*options); }; });
}

} // namespace vfio_shim::cli
