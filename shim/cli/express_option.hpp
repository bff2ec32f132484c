// SPDX-License-Identifier: MIT
/// @file
/// The option `--express`.
#pragma once

#include "vfio_shim/backend_kind.hpp"
#include "vfio_shim/client.hpp"

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// Which programs map by themselves.
struct ExpressChoice {
  bool given = false;
  std::vector<std::string> programs; ///< None: all.

  /// Says so, if that backend cannot have clients map by themselves.
  bool asks_too_much(BackendKind backend) const;

  /// For ContainerOptions::express; empty if the option was not given.
  std::function<bool(const Client &)> predicate() const;
};

/// Adds `--express [PROGRAM...]` to a command.
CLI::Option *add_express_option(CLI::App &command, ExpressChoice &choice);

} // namespace vfio_shim::cli
