// SPDX-License-Identifier: MIT
/// @file
/// The order in which recorded calls are made again.
#pragma once

#include "observe/trace_layout.hpp"

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

namespace vfio_shim::cli {

/// Lets calls begin in the order in which they began when they were recorded, each after those that
/// had ended before it then. Calls that overlapped may overlap again. Thread-safe.
class Turns {
public:
  /// @param records Ordered by their sequence.
  explicit Turns(std::span<const observe::trace::Record> records);

  /// Waits until it is the turn of the call with that index.
  void begin(std::size_t index);
  /// That call has ended.
  void end(std::size_t index);

private:
  std::vector<std::size_t> rank_;         ///< Its place in the order in which calls ended.
  std::vector<std::size_t> ended_before_; ///< How many calls had ended when it began.
  std::mutex mutex_;                      ///< Guards what follows.
  std::condition_variable changed_;
  std::vector<bool> ended_;        ///< By rank.
  std::size_t ended_in_order_ = 0; ///< All calls of lower rank have ended.
  std::size_t begun_ = 0;          ///< All calls of lower index have begun.
};

} // namespace vfio_shim::cli
