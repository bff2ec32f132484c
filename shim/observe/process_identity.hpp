// SPDX-License-Identifier: MIT
/// @file
/// Which process a pid means, now and later.
#pragma once

#include "vfio_shim/units.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

namespace vfio_shim::observe {

/// A process, told apart from a later one that gets the same pid.
struct ProcessIdentity {
  Pid pid;
  std::uint64_t started = 0; ///< Clock ticks after boot; 0: there was no such process.
  std::string command;       ///< As command_name().
};

/// Looks a process up. Never fails: see ProcessIdentity.
ProcessIdentity identify(Pid pid, const std::filesystem::path &proc = "/proc");

/// Whether the process that had @p pid and @p started still runs. A zombie does not.
bool still_runs(Pid pid, std::uint64_t started, const std::filesystem::path &proc = "/proc");

} // namespace vfio_shim::observe
