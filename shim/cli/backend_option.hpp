// SPDX-License-Identifier: MIT
/// @file
/// The option --backend.
#pragma once

#include "vfio_shim/backend_kind.hpp"

#include <CLI/CLI.hpp>

namespace vfio_shim::cli {

/// The backend to use.
struct BackendChoice {
  BackendKind kind = BackendKind::iommufd;
  bool given = false; ///< Asked for, rather than the default.

  /// Whether the backend that was asked for is one that this kernel has not got: says so.
  bool asks_too_much() const;
};

/// Adds --backend, which is stored in @p choice.
CLI::Option *add_backend_option(CLI::App &command, BackendChoice &choice);

} // namespace vfio_shim::cli
