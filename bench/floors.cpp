#include "floors.h"

#include <fmt/format.h>

namespace bench {
namespace {

using namespace legacy;

constexpr Bytes large = 64_MiB;
constexpr double large_map_at_most = 1.25;
constexpr double growth_at_most = 1.5;

Floor large_map(const Measurements &measurements, MemoryKind kind, Bytes size) {
  const std::string name = map_name(kind, size);
  const auto *operation = measurements.find(name);
  const double ratio =
      operation != nullptr ? operation->ratio(providers::shim, providers::kernel_compat) : 0;
  return {name + ", of kernel-compat's time", ratio, large_map_at_most};
}

Floor flat_cost(const Plan &plan, const Measurements &measurements, MemoryKind kind) {
  const auto median = [&](unsigned live) {
    const auto *operation = measurements.find(live_map_name(kind, live));
    return operation != nullptr ? operation->median(providers::shim) : 0;
  };
  const unsigned fewest = plan.live_mappings.front(), most = plan.live_mappings.back();
  const double base = median(fewest);
  return {fmt::format("{}, of the time beside {}", live_map_name(kind, most), fewest),
          base > 0 ? median(most) / base : 0, growth_at_most};
}

} // namespace

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
