// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/trace_report.hpp"
#include "observe/trace_reader.hpp"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace vfio_shim::cli {

namespace {

struct TraceOptions {
  std::string file;
  bool json = false;
  bool chrome = false;
};

void print(const observe::Recording &recording, const TraceOptions &options) {
  using nlohmann::ordered_json;
  if (options.chrome)
    print_trace_chrome(recording, std::cout);
  else if (!options.json)
    print_trace_text(recording, std::cout);
  else
    for (const auto &record : recording.records)
      std::cout << trace_json(recording, record)
                       .dump(-1, ' ', false, ordered_json::error_handler_t::replace)
                << '\n';
  std::cout.flush();
}

/// A recording that has lost its tail is shown as far as it goes; the status tells.
int trace(const TraceOptions &options) {
  const auto recording = observe::read_recording(options.file);
  if (!recording) {
    std::cerr << "vfio-shim: " << recording.error().where << '\n';
    return exit_usage;
  }
  print(*recording, options);
  const std::string complaint = recording->complaint(options.file);
  if (complaint.empty())
    return exit_ok;
  std::cerr << "vfio-shim: " << complaint << '\n';
  return exit_usage;
}

} // namespace

void add_trace(CommandLine &line) {
  auto options = std::make_shared<TraceOptions>();
  auto *command =
      line.app.add_subcommand("trace", "Show what `serve --record` or `run --record` has recorded");
  command->add_option("FILE", options->file, "The recording")->required();
  auto *json = command->add_flag("--json", options->json, "For programs: a line for each call");
  command
      ->add_flag("--chrome", options->chrome,
                 "For Perfetto's viewer, https://ui.perfetto.dev (Chrome's trace event format)")
      ->excludes(json);
  command->callback([&line, options] { line.chosen = [options] { return trace(*options); }; });
}

} // namespace vfio_shim::cli
