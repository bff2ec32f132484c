// SPDX-License-Identifier: MIT
#pragma once

#include "client/container.h"
#include "client/edu.h"
#include "client/provider.h"

#include <chrono>
#include <functional>
#include <mutex>
#include <thread>

#include "child.h"

namespace legacy {

/// Where a client storms: its container and device, and IOVAs that nobody else uses.
struct StormPlace {
  const Container &container;
  const Edu &edu;
  Iova start;
  /// Memory of another device in the container; nullptr if there is none.
  const MappedRegion *peer = nullptr;

  /// From `start` on.
  static constexpr Bytes size{64 << 20};
};

/// Maps and unmaps memory of every kind until `is_over`. A second thread has the device copy what
/// is mapped, and compares. Every call must succeed, and leave nothing in this process.
void storm(const StormPlace &place, const std::function<bool()> &is_over);

/// A process that storms until it is told to end.
class StormClient {
public:
  using IsOver = std::function<bool()>;
  explicit StormClient(const std::function<void(const IsOver &)> &life);

  /// Whether it has given up, which it does when something fails.
  bool has_ended() const;
  /// Tells it to end, and waits. @return Whether nothing has failed in it.
  testing::AssertionResult end();

private:
  const Signpost over_;
  Child child_;
};

/// A client that makes one small call after the other, and notes for how long it is not answered.
class Heartbeat {
public:
  explicit Heartbeat(const Provider &provider);

  /// Waits until it is answered. @return The longest time between two answers since this was asked
  /// last. Throws std::runtime_error if there is no answer.
  std::chrono::milliseconds longest_gap();

private:
  void beat(const std::stop_token &stop);
  void note_gap(std::chrono::steady_clock::duration gap);
  int answers();

  const Container container_;
  std::mutex mutex_; ///< Guards what follows.
  int answers_ = 0;
  std::chrono::steady_clock::duration longest_{};
  std::jthread thread_; ///< It uses the others, and so it is the last.
};

} // namespace legacy
