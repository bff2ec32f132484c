// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"

#include "vfio_shim/result.hpp"

#include <cerrno>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "daemon/agent_process.hpp"
#include "daemon/prefix.hpp"
#include "supervise/container_profile.hpp"

namespace vfio_shim::cli {

namespace {

struct SeccompOptions {
  std::string base = "/usr/share/containers/seccomp.json";
  bool only = false;
  bool resets = false;
  std::string prefix = daemon::default_prefix();
};

Result<nlohmann::ordered_json> read_base(const SeccompOptions &options) {
  if (options.only)
    return supervise::permissive_profile();
  std::ifstream file(options.base);
  if (!file)
    return fail(errno, fmt::format("cannot read {} ({}): give the engine's own profile by --base, "
                                   "or --only",
                                   options.base, errno_name(errno)));
  return nlohmann::ordered_json::parse(file, nullptr, false);
}

int print_profile(const SeccompOptions &options) {
  auto base = read_base(options);
  const auto profile =
      base ? supervise::container_profile(std::move(*base), daemon::agent_socket(options.prefix),
                                          options.resets)
           : pass_on(base);
  if (!profile) {
    spdlog::error("{}", base ? options.base + ": " + profile.error().where : profile.error().where);
    return exit_failure;
  }
  std::cout << profile->dump(2) << '\n';
  return exit_ok;
}

} // namespace

void add_seccomp(CommandLine &line) {
  auto options = std::make_shared<SeccompOptions>();
  auto *command = line.app.add_subcommand(
      "seccomp", "Print a seccomp profile for container engines, for `podman run --security-opt "
                 "seccomp=FILE`: the daemon then does for a container what `run` does");
  auto *base = command
                   ->add_option("--base", options->base,
                                "The profile that the engine has now, which stays in force")
                   ->capture_default_str();
  command->add_flag("--only", options->only, "Let everything else pass")->excludes(base);
  command->add_flag("--resets", options->resets,
                    "Have resets of a whole bus answered, too: each map takes longer then");
  command->add_option("--prefix", options->prefix, "Directory below /dev of the daemon's nodes")
      ->capture_default_str();
  command->callback(
      [&line, options] { line.chosen = [options] { return print_profile(*options); }; });
}

} // namespace vfio_shim::cli
