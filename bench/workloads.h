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

} // namespace bench
