/// @file
/// A way out of system calls that might wait for ever.
#pragma once

#include <ctime>

namespace vfio_shim::client {

/// While it exists, the blocking system calls of the thread that made it end with EINTR now and
/// then (every 50 ms). Uses SIGRTMIN, whose handler it installs.
class PeriodicInterrupt {
public:
  PeriodicInterrupt();
  PeriodicInterrupt(const PeriodicInterrupt &) = delete;
  PeriodicInterrupt &operator=(const PeriodicInterrupt &) = delete;
  ~PeriodicInterrupt();

private:
  timer_t timer_{};
  bool running_ = false;
};

} // namespace vfio_shim::client
