// SPDX-License-Identifier: MIT
/// @file
/// How long a thread's id means the caller of a call.
#pragma once

#include "vfio_shim/result.hpp"

#include <atomic>

#include <sys/types.h>

namespace vfio_shim::client {

/// The kernel keeps a thread, and with it the meaning of its id, until its call is answered. If
/// somebody else answers in the place of who serves the call, the id may become another program's:
/// the server must not begin to use it any more. Thread-safe.
class CallerHold {
public:
  /// The calling thread serves the call from now on.
  void serve_from_this_thread();

  /// To be asked before each system call that takes the id, with no other system call in between.
  /// @return ESRCH: the id may be another's.
  Result<void> check() const;

  /// Makes check() fail from now on.
  /// @return Whether the id is not about to be used. If it may be, this is to be asked again: the
  ///         server is running, perhaps from check() to what it was asked for. If the server is
  ///         blocked in a system call, the kernel has looked the id up already.
  bool revoke();

private:
  std::atomic<bool> revoked_ = false;
  std::atomic<pid_t> server_ = 0;
};

} // namespace vfio_shim::client
