// SPDX-License-Identifier: MIT
#include "cli/observing_options.hpp"

namespace vfio_shim::cli {

void add_observing_options(CLI::App &command, daemon::ObservingOptions &options,
                           CLI::Option *unless) {
  const auto only_ours = [unless](CLI::Option *option) {
    if (unless != nullptr)
      option->excludes(unless);
    return option;
  };
  only_ours(command.add_option(
      "--record", options.record,
      "Write every call to this file, for `vfio-shim trace`; one that is there is replaced"));
  only_ours(command.add_option("--metrics", options.metrics,
                               "Serve metrics for Prometheus at [HOST]:PORT, or at a Unix socket's "
                               "path"));
  command
      .add_option("--state", options.state,
                  "Directory in which to note which program uses what, for `vfio-shim usage`; '' "
                  "for none")
      ->capture_default_str();
}

} // namespace vfio_shim::cli
