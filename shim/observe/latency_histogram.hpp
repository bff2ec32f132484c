// SPDX-License-Identifier: MIT
/// @file
/// How long things took, counted in buckets that are as wide as they are far out.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace vfio_shim::observe {

/// The buckets: eight to each power of two, so that a bucket's bounds are at most an eighth apart;
/// from 256 ns to half an hour, and what lies outside in the first and the last.
struct LatencyBuckets {
  static constexpr unsigned steps_log2 = 3;
  static constexpr unsigned steps = 1U << steps_log2;
  static constexpr unsigned lowest_log2 = 8;
  static constexpr unsigned octaves = 33;
  static constexpr std::size_t count = std::size_t{octaves} * steps;

  static constexpr std::size_t of(std::uint64_t nanoseconds) {
    if (nanoseconds < (std::uint64_t{1} << lowest_log2))
      return 0;
    const auto log2 = static_cast<unsigned>(std::bit_width(nanoseconds)) - 1;
    const auto step = static_cast<unsigned>(nanoseconds >> (log2 - steps_log2)) % steps;
    return std::min<std::size_t>(std::size_t{log2 - lowest_log2} * steps + step, count - 1);
  }

  /// The least duration that is beyond @p bucket.
  static constexpr std::uint64_t end_of(std::size_t bucket) {
    const auto octave = static_cast<unsigned>((bucket + 1) / steps);
    const auto step = static_cast<unsigned>((bucket + 1) % steps);
    return std::uint64_t{steps + step} << (octave + lowest_log2 - steps_log2);
  }
};

/// The counts at one moment.
struct Latencies {
  std::array<std::uint64_t, LatencyBuckets::count> counts{};

  /// What @p fraction of the durations do not exceed, to an eighth; 0 if there are none.
  std::chrono::nanoseconds quantile(double fraction) const;

  /// What was added since @p earlier.
  Latencies since(const Latencies &earlier) const;
};

/// Counts that several threads add to, and other processes read.
class LatencyHistogram {
public:
  void add(std::uint64_t nanoseconds) {
    counts_[LatencyBuckets::of(nanoseconds)].fetch_add(1, std::memory_order_relaxed);
  }

  Latencies read() const;

private:
  std::array<std::atomic<std::uint64_t>, LatencyBuckets::count> counts_;
};

} // namespace vfio_shim::observe
