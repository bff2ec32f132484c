// SPDX-License-Identifier: MIT
/// @file
/// How many of the clients' failures are logged.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

namespace vfio_shim::observe {

/// What a client does in a loop must not fill the log: the first warnings are let through, later
/// ones at a slow pace, and those that were not are counted. Thread-safe.
class WarningBudget {
public:
  using Clock = std::chrono::steady_clock;

  /// What can be logged at once, after a quiet time.
  static constexpr std::uint32_t most = 50;
  /// What comes back, one by one.
  static constexpr std::chrono::seconds pace{2};

  /// Spends one warning. @return Nothing if none is left; else how many were withheld since the
  ///         last one that was not.
  std::optional<std::uint64_t> spend(Clock::time_point now = Clock::now());

private:
  std::mutex mutex_;
  std::uint32_t left_ = most;
  Clock::time_point counted_from_; ///< What has come back since then is not in left_ yet.
  std::uint64_t withheld_ = 0;
};

} // namespace vfio_shim::observe
