// SPDX-License-Identifier: MIT
/// @file
/// How quickly the messages of a session follow one another.
#pragma once

#include "vfio_shim/units.hpp"

#include <chrono>

namespace vfio_shim::cuse {

/// Tells when a thread makes one short call right after another, so that it is worth looking for
/// its next one before going to sleep. Not thread-safe.
class Pace {
public:
  using Clock = std::chrono::steady_clock;
  using Duration = std::chrono::microseconds;

  /// A call that takes longer than this is not short.
  static constexpr Duration short_call{2000};
  /// Who pauses longer than this does not call right after.
  static constexpr Duration short_pause{300};

  /// A message of @p caller has been taken.
  /// @return Whether it is one of a burst: the next one is likely to come right after its answer.
  bool taken(Tid caller, Clock::time_point now);

  /// It has been answered.
  void answered(Clock::time_point now);

  /// How long to look for the next one after an answer.
  Duration patience() const;

  /// The next one did not come while it was looked for.
  void missed() { in_a_row_ = 0; }

  /// Others had to wait for a call of a burst. For a while there are no bursts.
  void others_waited(Clock::time_point now);

private:
  Tid caller_{};
  Clock::time_point taken_{};
  Clock::time_point answered_{};
  Clock::time_point no_bursts_before_{};
  Duration usual_pause_{short_pause};
  int in_a_row_ = 0; ///< Short calls of caller_, one right after another.
};

} // namespace vfio_shim::cuse
