// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/help_format.hpp"
#include "cli/log_format.hpp"
#include "cli/terminal.hpp"

#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <exception>
#include <iostream>
#include <memory>
#include <string_view>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace {

using namespace vfio_shim::cli;

/// Everything but a subcommand's own output goes to stderr.
void log_to_stderr() {
  auto logger = spdlog::stderr_color_mt("vfio-shim", takes_colours(STDERR_FILENO)
                                                         ? spdlog::color_mode::automatic
                                                         : spdlog::color_mode::never);
  logger->set_formatter(vfio_shim::cli::printable_lines("vfio-shim: %^%l%$: %v"));
  spdlog::set_default_logger(std::move(logger));
}

/// Throws if the first word is no command. CLI11 would say that some command is required.
void check_command(const CLI::App &app, int words, char **argv) {
  const std::string word = words > 1 ? argv[1] : "";
  if (word.empty())
    throw CLI::RequiredError("A command");
  const auto is_meant = [&word](const CLI::App *command) { return command->check_name(word); };
  if (word.front() != '-' && app.get_subcommands(is_meant).empty())
    throw CLI::ValidationError("There is no command " + vfio_shim::printable(word));
}

int run_command_line(int argc, char **argv) {
  CommandLine line;
  line.app.name("vfio-shim");
  line.app.description("The legacy VFIO API for unmodified programs, carried out on iommufd.");
  line.app.set_version_flag("--version", VFIO_SHIM_VERSION);
  line.app.require_subcommand(0, 1);
  line.app.formatter(std::make_shared<HelpFormatter>());
  add_serve(line);
  add_release(line);
  add_run(line);
  add_upgrade(line);
  add_express(line);
  add_status(line);
  add_doctor(line);
  add_trace(line);
  add_top(line);
  add_usage(line);
  add_replay(line);
  add_compare(line);
  add_info(line);
  add_cdi(line);
  add_seccomp(line);
  add_agent(line);
  auto *const dashes = std::find(argv, argv + argc, std::string_view("--"));
  if (dashes != argv + argc)
    line.after_dashes.assign(dashes + 1, argv + argc);
  const auto words = static_cast<int>(dashes - argv);
  try {
    check_command(line.app, words, argv);
    line.app.parse(words, argv);
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
