// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/doctor/checks.hpp"
#include "cli/doctor/report.hpp"
#include "cli/terminal.hpp"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include <unistd.h>

namespace vfio_shim::cli {

namespace {

struct DoctorOptions {
  std::string prefix;
  bool json = false;
};

int examine_here(const DoctorOptions &options) {
  const auto findings = doctor::examine(doctor::Machine::here(), options.prefix);
  if (options.json)
    std::cout << doctor::report_json(findings).dump(
                     2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << '\n';
  else
    std::cout << doctor::report_text(findings, takes_colours(STDOUT_FILENO));
  return doctor::ready(findings) ? exit_ok : exit_failure;
}

} // namespace

void add_doctor(CommandLine &line) {
  auto options = std::make_shared<DoctorOptions>();
  auto *command = line.app.add_subcommand(
      "doctor", "Check this machine, and say for each thing missing what mends it");
  command->add_option("--prefix", options->prefix, "Directory of the nodes below /dev");
  command->add_flag("--json", options->json, "For programs");
  command->callback(
      [&line, options] { line.chosen = [options] { return examine_here(*options); }; });
}

} // namespace vfio_shim::cli
