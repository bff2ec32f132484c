// SPDX-License-Identifier: MIT
/// @file
/// Looking again and again, for a moment, before going to sleep.
#pragma once

#include <chrono>

#include <sched.h>

namespace vfio_shim::client {

/// To be woken costs more than most of what is waited for here takes: another CPU sleeps by then.
/// So whoever waits for a borrowed thread looks for it as long as that may take, and only then
/// sleeps.
///
///     BriefWatch watch;
///     while (nothing has happened && watch.goes_on()) {}
///
/// Does not watch at all where the thread that is waited for could not run meanwhile.
class BriefWatch {
public:
  /// Lets others have the CPU, if any want it. @return Whether to look again.
  bool goes_on() const {
    if (!has_other_cpu() || std::chrono::steady_clock::now() >= end_)
      return false;
    ::sched_yield();
    return true;
  }

private:
  /// Twice what an ordinary borrowed call takes. A call that pins much memory takes longer by far.
  static constexpr std::chrono::microseconds patience{100};

  static bool has_other_cpu() {
    static const bool has = [] {
      cpu_set_t allowed{};
      return ::sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 1;
    }();
    return has;
  }

  std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + patience;
};

} // namespace vfio_shim::client
