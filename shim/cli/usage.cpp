#include "cli/command_line.hpp"
#include "cli/human.hpp"
#include "cli/state_directory.hpp"
#include "cli/usage_report.hpp"
#include "observe/usage_book.hpp"

#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

struct UsageOptions {
  std::string state = default_state_directory;
  bool json = false;
};

int usage(const UsageOptions &options) {
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
    std::cout << usage_json(book.value_or(observe::UsageBook{})).dump(2) << '\n';
    return exit_ok;
  }
  if (!book || book->empty())
    std::cout << fmt::format("{}: no program has used the legacy API yet\n", file.string());
  else
    std::cout << usage_text(*book, std::chrono::system_clock::now());
  return exit_ok;
}

} // namespace

void add_usage(CommandLine &line) {
  auto options = std::make_shared<UsageOptions>();
  auto *command = line.app.add_subcommand(
      "usage", "Show which programs have used what of the legacy API, and what keeps each from "
               "running natively on iommufd");
  command->add_option("--state", options->state, "Directory in which the daemons note it")
      ->capture_default_str();
  command->add_flag("--json", options->json, "For programs");
  command->callback([&line, options] { line.chosen = [options] { return usage(*options); }; });
}

} // namespace vfio_shim::cli
