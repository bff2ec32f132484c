// SPDX-License-Identifier: MIT
/// @file
/// A way out of system calls that might wait for ever.
#pragma once

#include <csetjmp>

namespace vfio_shim::client {

/// While it exists, the blocking system calls of the thread that made it end with EINTR now and
/// then (every 50 ms). Uses SIGRTMIN, whose handler it installs. One at a time in each thread.
class PeriodicInterrupt {
public:
  PeriodicInterrupt();
  PeriodicInterrupt(const PeriodicInterrupt &) = delete;
  PeriodicInterrupt &operator=(const PeriodicInterrupt &) = delete;
  ~PeriodicInterrupt();

  /// Makes the interrupts of this thread jump to @p way_out, until it is told nullptr: for system
  /// calls that the kernel makes again after a signal. Nothing that a jump would skip may happen
  /// in between.
  static void lead_to(sigjmp_buf *way_out);
};

} // namespace vfio_shim::client
