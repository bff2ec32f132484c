// SPDX-License-Identifier: MIT
/// @file
/// The process that others hand their seccomp filters' listeners to.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <cstddef>
#include <filesystem>

namespace vfio_shim::supervise {

/// What an agent takes on.
struct AgentLimits {
  std::size_t per_user = 64; ///< Root has no limit of its own.
  std::size_t total = 1024;
  std::size_t of_root = 128; ///< Of these. What starts root's containers must not be kept waiting.
};

/// A socket that everybody may connect to, in the place of one that is there.
Result<Fd> listen_for_listeners(const std::filesystem::path &path);

/// Serves everybody who connects by a process of his own: that one takes the listener, and then
/// supervises whoever the filter is for, as long as there is one. It does not end with this
/// process. Whoever connects gets no further than his own process: this one reads nothing.
///
/// The process must have one thread. @param node The daemon's container node.
[[noreturn]] void serve_as_agent(Fd socket, const std::filesystem::path &node,
                                 const AgentLimits &limits = {});

} // namespace vfio_shim::supervise
