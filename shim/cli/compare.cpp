// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/compare/comparison.hpp"
#include "cli/compare/page.hpp"
#include "cli/compare/report.hpp"
#include "cli/own_program.hpp"
#include "cli/replay/cast.hpp"
#include "observe/trace_reader.hpp"

#include "vfio_shim/backend_kind.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace vfio_shim::cli {

namespace {

namespace fs = std::filesystem;

struct CompareOptions {
  std::vector<std::string> files;
  std::vector<std::string> backends;
  std::string device;
  std::string html;
  std::string keep;
  bool json = false;
  std::vector<std::string> command;
};

int complain(const std::string &line) {
  spdlog::error("{}", line);
  return exit_usage;
}

/// Where the recordings are made; removed at the end.
class ScratchFolder {
public:
  static Result<ScratchFolder> make() {
    std::string path = (fs::temp_directory_path() / "vfio-shim-compare.XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr)
      return fail_errno(path);
    return ScratchFolder(path);
  }
  ScratchFolder(ScratchFolder &&other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder(const ScratchFolder &) = delete;
  ScratchFolder &operator=(const ScratchFolder &) = delete;
  ScratchFolder &operator=(ScratchFolder &&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty())
      fs::remove_all(path_, ignored);
  }

  const fs::path &path() const { return path_; }

private:
  explicit ScratchFolder(fs::path path) : path_(std::move(path)) {}

  fs::path path_;
};

Result<observe::Recording> read_whole(const fs::path &file) {
  auto recording = observe::read_recording(file);
  if (!recording)
    return recording;
  if (const std::string complaint = recording->complaint(file); !complaint.empty())
    return fail(ENODATA, complaint);
  return recording;
}

/// Those that were asked for; without such a wish, all that this kernel has.
Result<std::vector<std::string>> backends_to_compare(const CompareOptions &options) {
  std::vector<std::string> names = options.backends;
  std::string missing;
  if (names.empty())
    for (const BackendKind kind : every_backend) {
      const auto there = check_backend(kind);
      if (there)
        names.emplace_back(backend_name(kind));
      else
        missing = there.error().where;
    }
  for (const std::string &name : names) {
    const auto kind = backend_named(name);
    if (!kind)
      return fail(EINVAL, fmt::format("no backend is called {}", name));
    VFIO_SHIM_TRY(check_backend(*kind));
  }
  if (names.size() < 2)
    return fail(EINVAL, missing.empty() ? "one backend has nothing to be compared with"
                                        : "nothing to compare with: " + missing);
  return names;
}

/// The command, or the replay, on one backend.
Result<Turn> take_turn(const CompareOptions &options, const std::string &backend,
                       const fs::path &folder) {
  const std::string file = (folder / (backend + ".recording")).string();
  spdlog::info("{} ...", backend);
  std::vector<std::string> arguments;
  if (options.command.empty()) {
    arguments = {"replay", options.files.front(), "--quiet", "--backend", backend, "--record",
                 file};
    if (!options.device.empty())
      arguments.insert(arguments.end(), {"--device", options.device});
  } else {
    arguments = {"run", "--backend", backend, "--record", file, "--"};
    arguments.insert(arguments.end(), options.command.begin(), options.command.end());
  }
  const auto status = run_own_program(arguments);
  if (!status)
    return pass_on(status);
  if (options.command.empty() && *status != 0)
    return fail(ECANCELED, fmt::format("the replay on {} failed: see above", backend));
  auto recording = read_whole(file);
  if (!recording)
    return pass_on(recording);
  return Turn{.name = backend, .recording = std::move(*recording), .exit_status = *status};
}

Result<std::vector<Turn>> take_turns(const CompareOptions &options) {
  const auto backends = backends_to_compare(options);
  if (!backends)
    return pass_on(backends);
  if (!options.files.empty()) { // Whatever is wrong with it is said once.
    const auto recording = read_whole(options.files.front());
    if (!recording)
      return pass_on(recording);
    VFIO_SHIM_TRY(find_cast(*recording, options.device));
  }
  std::optional<ScratchFolder> scratch;
  fs::path folder = options.keep;
  if (!folder.empty()) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error)
      return fail(error.value(), fmt::format("cannot make the folder {}: {}", folder.string(),
                                             errno_name(error.value())));
  } else {
    auto made = ScratchFolder::make();
    if (!made)
      return fail(made.error().code, made.error().describe());
    scratch.emplace(std::move(*made));
    folder = scratch->path();
  }
  std::vector<Turn> turns;
  for (const std::string &backend : *backends) {
    auto turn = take_turn(options, backend, folder);
    if (!turn)
      return pass_on(turn);
    turns.push_back(std::move(*turn));
  }
  return turns;
}

/// Recordings that were made before, elsewhere perhaps: nothing is run.
Result<std::vector<Turn>> read_turns(const std::vector<std::string> &files) {
  std::vector<Turn> turns;
  for (const std::string &file : files) {
    auto recording = read_whole(file);
    if (!recording)
      return pass_on(recording);
    std::string name = recording->backend;
    if (std::ranges::find(turns, name, &Turn::name) != turns.end())
      name = fmt::format("{} ({})", name, fs::path(file).filename().string());
    turns.push_back({.name = name, .recording = std::move(*recording), .exit_status = 0});
  }
  return turns;
}

int compare_turns(const CompareOptions &options) {
  const auto turns = options.files.size() > 1 ? read_turns(options.files) : take_turns(options);
  if (!turns)
    return complain(turns.error().where);
  const Comparison comparison = compare(*turns);
  if (options.json)
    std::cout << comparison_json(comparison)
                     .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << '\n';
  else
    std::cout << comparison_text(comparison);
  if (!options.html.empty()) {
    std::ofstream page(options.html);
    page << comparison_page(
        comparison, *turns,
        fmt::format("{}",
                    fmt::join(options.command.empty() ? options.files : options.command, " ")));
    if (!page.flush())
      return complain("cannot write " + options.html);
  }
  return comparison.same() ? exit_ok : exit_failure;
}

} // namespace

void add_compare(CommandLine &line) {
  auto options = std::make_shared<CompareOptions>();
  auto *command = line.app.add_subcommand(
      "compare", "Run a command, or replay a recording, on one backend after the other, and tell "
                 "what differs\n"
                 "  vfio-shim compare [OPTIONS] -- COMMAND [ARGUMENT...]\n"
                 "  vfio-shim compare [OPTIONS] FILE          replays it\n"
                 "  vfio-shim compare [OPTIONS] FILE FILE...  compares recordings as they are");
  command->add_option("FILE", options->files, "A recording to replay; several: to compare");
  command
      ->add_option("--backends", options->backends,
                   "Which, separated by commas; the others are compared with the first. Default: "
                   "all that this kernel has")
      ->delimiter(',');
  command->add_option("--device", options->device,
                      "The device to take instead of the recorded one, for a replay");
  command->add_option("--keep", options->keep, "Leave the recordings in this folder");
  command->add_option("--html", options->html, "Write a page with plots to this file");
  command->add_flag("--json", options->json, "For programs");
  command->callback([&line, options] {
    if (options->files.empty() == line.after_dashes.empty())
      throw CLI::RequiredError("either FILE or -- COMMAND");
    options->command = line.after_dashes;
    line.chosen = [options] { return compare_turns(*options); };
  });
}

} // namespace vfio_shim::cli
