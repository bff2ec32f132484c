// SPDX-License-Identifier: MIT
/// @file
/// A daemon for one command.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <string>

#include <sys/types.h>

#include "daemon/daemon.hpp"

namespace vfio_shim::daemon {

/// A daemon in a process of its own, below this one, on a prefix of its own.
class PrivateDaemon {
public:
  /// Starts it and waits until it serves. It says itself what hinders it.
  /// @param options How it is to live; its prefix and what it does when it is ready are its own.
  /// @return An error without a `where` if it has said it. Otherwise the errno of pipe(), fork().
  static Result<PrivateDaemon> start(DaemonOptions options);

  PrivateDaemon(PrivateDaemon &&other) noexcept;
  PrivateDaemon(const PrivateDaemon &) = delete;
  PrivateDaemon &operator=(const PrivateDaemon &) = delete;
  PrivateDaemon &operator=(PrivateDaemon &&) = delete;
  /// Ends the daemon, at once unless the command has left somebody behind who uses it.
  ~PrivateDaemon();

  const std::string &prefix() const { return prefix_; }

private:
  PrivateDaemon() = default;

  pid_t pid_ = 0;
  std::string prefix_;
};

} // namespace vfio_shim::daemon
