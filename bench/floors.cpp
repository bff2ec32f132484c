// SPDX-License-Identifier: MIT
#include "floors.h"

#include <fmt/format.h>

namespace bench {
namespace {

using namespace legacy;

constexpr Bytes large = 64_MiB;
constexpr double large_map_at_most = 1.25;
constexpr double growth_at_most = 1.5;
constexpr double observed_at_most = 1.05;

Floor large_map(const Measurements &measurements, MemoryKind kind, Bytes size) {
  const std::string name = map_name(kind, size);
  const auto *operation = measurements.find(name);
  Floor floor{name + ", of kernel-compat's time", 0, large_map_at_most, true};
  if (operation != nullptr) {
    floor.measured = operation->ratio(providers::shim, providers::kernel_compat);
    floor.clear = !operation->scattered(providers::shim);
  }
  return floor;
}

Floor flat_cost(const Plan &plan, const Measurements &measurements, MemoryKind kind) {
  const unsigned fewest = plan.live_mappings.front(), most = plan.live_mappings.back();
  const auto *beside_fewest = measurements.find(live_map_name(kind, fewest));
  const auto *beside_most = measurements.find(live_map_name(kind, most));
  Floor floor{fmt::format("{}, of the time beside {}", live_map_name(kind, most), fewest), 0,
              growth_at_most, true};
  if (beside_fewest != nullptr && beside_most != nullptr) {
    const double base = beside_fewest->median(providers::shim);
    floor.measured = base > 0 ? beside_most->median(providers::shim) / base : 0;
    floor.clear =
        !beside_fewest->scattered(providers::shim) && !beside_most->scattered(providers::shim);
  }
  return floor;
}

/// What recording and watching may cost a call.
Floor observing(const Measurements::Operation &operation) {
  Floor floor{operation.name + ", observed, of the time unobserved",
              operation.ratio(observed_shim, providers::shim), observed_at_most,
              !operation.scattered(providers::shim) && !operation.scattered(observed_shim)};
  return floor;
}

} // namespace

std::vector<Floor> observing_floors(const Measurements &measurements) {
  std::vector<Floor> all;
  for (const auto &operation : measurements.operations())
    if (operation.by_provider.contains(observed_shim))
      all.push_back(observing(operation));
  return all;
}

std::vector<Floor> floors(const Plan &plan, const Measurements &measurements) {
  std::vector<Floor> all;
  for (const MemoryKind kind : plan.kinds)
    for (const Bytes size : plan.sizes)
      if (size >= large)
        all.push_back(large_map(measurements, kind, size));
  for (const MemoryKind kind : {MemoryKind::Anonymous, MemoryKind::MemfdShared})
    all.push_back(flat_cost(plan, measurements, kind));
  return all;
}

} // namespace bench
