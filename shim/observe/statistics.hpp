// SPDX-License-Identifier: MIT
/// @file
/// What kinds of calls there were, how many failed, how long they took.
#pragma once

#include "observe/latency_histogram.hpp"
#include "observe/trace_layout.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vfio_shim::observe {

/// Counts per kind of call, in shared memory beside the ledger: a few relaxed additions per call.
/// All zero is empty, so fresh shared memory needs no set-up.
class Statistics {
public:
  /// Every kind of call there can be: VFIO's ioctls by number, and what is no such ioctl.
  static constexpr std::size_t vfio_ioctls = 32;
  static constexpr std::size_t other_ioctls = vfio_ioctls;
  static constexpr std::size_t opens = vfio_ioctls + 1;
  static constexpr std::size_t closes = vfio_ioctls + 2;
  static constexpr std::size_t kinds = vfio_ioctls + 3;

  /// Errnos beyond this one are counted as this one.
  static constexpr std::size_t last_errno = 133;

  /// Adds a call that has been answered. Lock-free, from any thread.
  void add(const trace::Record &record);

  /// What is known of one kind of call.
  struct Kind {
    std::string name; ///< "VFIO_IOMMU_MAP_DMA", "open", "close", "other ioctl".
    std::uint64_t calls = 0;
    std::uint64_t borrowed = 0;    ///< Those that borrowed the client's thread.
    std::uint64_t nanoseconds = 0; ///< In all of them together.
    std::array<std::uint64_t, last_errno + 1> errors{}; ///< By errno; 0 is not used.
    Latencies latencies;

    std::uint64_t failed() const;
  };

  /// All kinds, in the order of their numbers; those without a call too. Other processes may go on
  /// adding meanwhile: a call may then be in one figure and not yet in another.
  std::vector<Kind> read() const;

private:
  struct Counts {
    std::atomic<std::uint64_t> borrowed;
    std::atomic<std::uint64_t> nanoseconds;
    std::array<std::atomic<std::uint64_t>, last_errno + 1> results; ///< By errno; 0: succeeded.
    LatencyHistogram latencies;
  };

  std::array<Counts, kinds> counts_;
};

/// The name of a kind of call, as in Statistics::Kind::name.
std::string kind_name(std::size_t kind);

/// "VFIO_IOMMU_MAP_DMA", or "ioctl 0x1234" for what is none of the legacy API's.
std::string command_name(std::uint32_t command);

} // namespace vfio_shim::observe
