// SPDX-License-Identifier: MIT
#include "cuse/pace.hpp"

#include <algorithm>

namespace vfio_shim::cuse {

bool Pace::taken(Tid caller, Clock::time_point now) {
  constexpr int many = 8;
  constexpr int inertia = 8;
  const auto pause = std::chrono::duration_cast<Duration>(now - answered_);
  taken_ = now;
  if (caller != caller_ || pause > short_pause) {
    caller_ = caller;
    in_a_row_ = 0;
    return false;
  }
  usual_pause_ += (pause - usual_pause_) / inertia;
  in_a_row_ = std::min(in_a_row_ + 1, many);
  return in_a_row_ == many && now >= no_bursts_before_;
}

void Pace::answered(Clock::time_point now) {
  answered_ = now;
  if (now - taken_ > short_call)
    in_a_row_ = 0;
}

Pace::Duration Pace::patience() const {
  constexpr Duration least{50};
  constexpr int times = 8;
  return std::clamp(usual_pause_ * times, least, short_pause);
}

/// So that whoever wants others to wait gets the smallest part of the time for it.
void Pace::others_waited(Clock::time_point now) {
  constexpr std::chrono::milliseconds quiet{100};
  in_a_row_ = 0;
  no_bursts_before_ = now + quiet;
}

} // namespace vfio_shim::cuse
