// SPDX-License-Identifier: MIT
/// @file
/// The options by which a daemon is asked to note its calls.
#pragma once

#include <CLI/CLI.hpp>

#include "daemon/observing.hpp"

namespace vfio_shim::cli {

/// Adds --record, --metrics and --state to @p command.
/// @param unless An option that means somebody else's daemon, which cannot be asked for it.
void add_observing_options(CLI::App &command, daemon::ObservingOptions &options,
                           CLI::Option *unless = nullptr);

} // namespace vfio_shim::cli
