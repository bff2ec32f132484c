#include "cli/command_line.hpp"
#include "cli/log_format.hpp"

#include <algorithm>
#include <exception>
#include <iostream>
#include <string_view>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace {

using namespace vfio_shim::cli;

/// Everything but a subcommand's own output goes to stderr.
void log_to_stderr() {
  auto logger = spdlog::stderr_color_mt("vfio-shim");
  logger->set_formatter(vfio_shim::cli::printable_lines("vfio-shim: %^%l%$: %v"));
  spdlog::set_default_logger(std::move(logger));
}

int run_command_line(int argc, char **argv) {
  CommandLine line;
  line.app.name("vfio-shim");
  line.app.description("The legacy VFIO API for unmodified programs, carried out on iommufd.");
  line.app.set_version_flag("--version", VFIO_SHIM_VERSION);
  line.app.require_subcommand(1);
  add_serve(line);
  add_release(line);
  add_run(line);
  add_status(line);
  add_doctor(line);
  add_trace(line);
  add_top(line);
  add_usage(line);
  add_replay(line);
  add_compare(line);
  add_info(line);
  auto *const dashes = std::find(argv, argv + argc, std::string_view("--"));
  if (dashes != argv + argc)
    line.after_dashes.assign(dashes + 1, argv + argc);
  try {
    line.app.parse(static_cast<int>(dashes - argv), argv);
  } catch (const CLI::ParseError &error) {
    return line.app.exit(error) == 0 ? exit_ok : exit_usage;
  }
  return line.chosen();
}

} // namespace

int main(int argc, char **argv) {
  log_to_stderr();
  try {
    return run_command_line(argc, argv);
  } catch (const std::exception &error) {
    std::cerr << "vfio-shim: " << error.what() << '\n';
    return exit_failure;
  }
}
