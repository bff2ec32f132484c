// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "measurements.h"
#include "workloads.h"

namespace bench {

/// One promise about the shim's speed, and whether these measurements keep it.
struct Floor {
  std::string promise;
  double measured = 0;
  double at_most = 0;
  /// Whether the samples behind it lie close enough together to judge by.
  bool clear = true;

  /// A ratio of 0 means that something was not measured, which keeps no promise.
  bool kept() const { return measured > 0 && measured <= at_most; }
};

/// The floors of the project: maps of 64 MiB and more take at most 1.25 times as long as
/// kernel-compat's; a map beside the most live mappings takes at most 1.5 times as long as beside
/// the fewest.
std::vector<Floor> floors(const Plan &plan, const Measurements &measurements);

/// The floors of observing: every operation takes at most 1.05 times as long while it is recorded
/// and watched.
std::vector<Floor> observing_floors(const Measurements &measurements);

} // namespace bench
