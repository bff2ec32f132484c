// SPDX-License-Identifier: MIT
#include "observe/latency_histogram.hpp"

#include <cmath>
#include <numeric>

namespace vfio_shim::observe {

std::chrono::nanoseconds Latencies::quantile(double fraction) const {
  const auto all = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  if (all == 0)
    return std::chrono::nanoseconds(0);
  const auto wanted = std::max<std::uint64_t>(
      static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(all))), 1);
  std::uint64_t passed = 0;
  std::size_t bucket = 0;
  for (; bucket + 1 < counts.size(); ++bucket) {
    passed += counts[bucket];
    if (passed >= wanted)
      break;
  }
  return std::chrono::nanoseconds(LatencyBuckets::end_of(bucket));
}

Latencies Latencies::since(const Latencies &earlier) const {
  Latencies difference;
  for (std::size_t bucket = 0; bucket < counts.size(); ++bucket)
    difference.counts[bucket] = counts[bucket] - earlier.counts[bucket];
  return difference;
}

Latencies LatencyHistogram::read() const {
  Latencies latencies;
  for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket)
    latencies.counts[bucket] = counts_[bucket].load(std::memory_order_relaxed);
  return latencies;
}

} // namespace vfio_shim::observe
