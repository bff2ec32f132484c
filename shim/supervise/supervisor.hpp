// SPDX-License-Identifier: MIT
/// @file
/// The process beside a command that `vfio-shim run` has started.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <filesystem>

#include <sys/types.h>

namespace vfio_shim::supervise {

/// Supervises whoever the filter behind @p listener is for, until nobody is left, and ends this
/// process. @param node The daemon's container node.
///
/// The filter may be anybody's, and trap what it likes: calls that are none of ours go on in the
/// kernel.
[[noreturn]] void supervise(Fd listener, const std::filesystem::path &node);

/// Answers what a program asks of others than our files: of KVM and of a device's bus about groups,
/// and of an iommufd in a container's place (`--express`) about dirty pages. Lives as long as there
/// is a process that was started under it.
///
/// Usage: start() -> fork -> supervise_this_process() in the child -> exec.
class Supervisor {
public:
  /// Starts it, in a process of its own. @param node The daemon's container node.
  static Result<Supervisor> start(const std::filesystem::path &node);

  Supervisor(Supervisor &&other) noexcept;
  Supervisor(const Supervisor &) = delete;
  Supervisor &operator=(const Supervisor &) = delete;
  Supervisor &operator=(Supervisor &&) = delete;
  /// Waits a moment for its end; it stays for processes that the command has left behind.
  ~Supervisor();

  /// Has the calling process, and all that it will start, supervised.
  /// @return See trap_ioctls().
  Result<void> supervise_this_process() const;

private:
  Supervisor(pid_t pid, Fd socket) : pid_(pid), socket_(std::move(socket)) {}

  pid_t pid_;
  Fd socket_; ///< Its other end is the supervisor's.
};

} // namespace vfio_shim::supervise
