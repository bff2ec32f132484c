// SPDX-License-Identifier: MIT
#pragma once

#include "client/memory.h"
#include "client/provider.h"
#include "client/topology.h"
#include "client/units.h"

#include <functional>
#include <string>
#include <vector>

#include "measurements.h"

namespace bench {

/// The name of the shim's second daemon, which records and is watched while it is measured.
inline constexpr const char *observed_shim = "observed";

/// What to measure, and how long.
struct Plan {
  std::vector<legacy::Provider> providers;
  legacy::PciDevice device;
  /// How often each provider gets its turn.
  unsigned rounds = 7;
  std::vector<legacy::MemoryKind> kinds;
  std::vector<legacy::Bytes> sizes;
  /// Numbers of mappings that live beside the one that is measured, rising.
  std::vector<unsigned> live_mappings;
  /// As `rounds`, for filling containers with live mappings, which takes long.
  unsigned live_rounds = 3;
  /// Called with a line for a person who waits.
  std::function<void(const std::string &)> progress;
};

/// Names of operations, as they appear in every report.
std::string map_name(legacy::MemoryKind kind, legacy::Bytes size);
std::string unmap_name(legacy::MemoryKind kind, legacy::Bytes size);
std::string live_map_name(legacy::MemoryKind kind, unsigned live);
std::string live_unmap_name(legacy::MemoryKind kind, unsigned live);

/// Runs all of `plan`. In each round every provider has one turn, in the same order, with the same
/// memory and the same device, so that what disturbs the machine disturbs all alike.
/// Throws std::system_error when a call fails.
Measurements run(const Plan &plan);

/// Fills a container with mappings of `pages` single pages of private memory and unmaps them in
/// random order; each provider of `plan` in turns. Times are per call. Throws std::system_error
/// when a call fails.
Measurements run_stress(const Plan &plan, unsigned pages);

/// Measures small calls on the two providers of `plan` at once, call by call in turns, each on a
/// device of its own: so small a difference would drown in what happens between longer turns.
Measurements run_call_by_call(const Plan &plan, const legacy::PciDevice &second_device);

} // namespace bench
