// SPDX-License-Identifier: MIT
/// @file
/// The directory below /dev that a daemon's nodes are in, and the daemon's exclusive right to it.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <chrono>
#include <filesystem>
#include <string>

namespace vfio_shim::daemon {

/// Whether this kernel has the legacy nodes itself.
bool kernel_has_legacy_nodes(const topology::Roots &roots = {});

/// Whether a daemon serves in the place of the kernel's own nodes.
bool is_taken_over(const topology::Roots &roots = {});

/// Whether that daemon has left groups, and the container's node, to the kernel.
bool shares_with_kernel(const topology::Roots &roots = {});

/// "vfio" where the kernel has no legacy nodes, or they are taken over; else "vfio-shim".
std::string default_prefix(const topology::Roots &roots = {});

/// The container node of the daemon that serves @p prefix.
std::filesystem::path container_node(const std::string &prefix, const topology::Roots &roots = {});

/// Whether a daemon serves @p prefix now, or its nodes are kept for one that comes back.
bool is_served(const std::string &prefix);

/// Whether a daemon of @p prefix is alive.
bool has_daemon(const std::string &prefix);

/// The right to serve a prefix. Held until it goes out of scope or the process ends, however.
class PrefixLock {
public:
  /// @param patience How long to wait for who has it: a daemon that ends, or is being released.
  /// @return EBUSY: another daemon serves it.
  static Result<PrefixLock> acquire(const std::string &prefix,
                                    std::chrono::milliseconds patience = {});
  /// The lock that the program before this one has left to it.
  static PrefixLock inherit(Fd file) { return PrefixLock(std::move(file)); }

  const Fd &file() const { return file_; }

private:
  explicit PrefixLock(Fd file) : file_(std::move(file)) {}

  Fd file_;
};

} // namespace vfio_shim::daemon
