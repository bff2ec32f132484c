// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/doctor/checks.hpp"
#include "cli/doctor/report.hpp"
#include "cli/doctor/trial.hpp"
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
  bool tries = false;
};

int examine_here(const DoctorOptions &options) {
  const auto findings = doctor::examine(doctor::Machine::here(), options.prefix);
  const bool colour = takes_colours(STDOUT_FILENO);
  auto json = doctor::report_json(findings);
  if (!options.json)
    std::cout << doctor::report_text(findings, colour) << std::flush;
  bool works = doctor::ready(findings);
  if (options.tries) {
    const auto trial = doctor::try_here();
    works = works && trial.succeeded();
    json["tried"] = doctor::trial_json(trial);
    if (!options.json)
      std::cout << '\n' << doctor::trial_text(trial, colour);
  }
  if (options.json)
    std::cout << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
  return works ? exit_ok : exit_failure;
}

} // namespace

void add_doctor(CommandLine &line) {
  auto options = std::make_shared<DoctorOptions>();
  auto *command = line.app.add_subcommand(
      "doctor", "Check this machine, and say for each thing missing what mends it");
  command->add_option("--prefix", options->prefix, "Directory of the nodes below /dev");
  command->add_flag("--try", options->tries,
                    "Also try it: borrow a process started for that, hand it a descriptor, map a "
                    "page of it, make a node. Needs no device, and touches none");
  command->add_flag("--json", options->json, "For programs");
  command->callback(
      [&line, options] { line.chosen = [options] { return examine_here(*options); }; });
}

} // namespace vfio_shim::cli
