// SPDX-License-Identifier: MIT
/// @file
/// Work that may have to wait, done beside whoever asks for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace vfio_shim {

/// A thread that is there while it has work. One that does not come to an end keeps nobody but
/// itself. Thread-safe.
class SideThread {
public:
  using Job = std::function<void()>;

  SideThread() = default;
  SideThread(const SideThread &) = delete;
  SideThread &operator=(const SideThread &) = delete;
  /// Waits for the job.
  ~SideThread() = default;

  /// Has @p job done, and waits for that if nothing else is under way. If something is, @p job is
  /// done after it.
  /// @return Whether it has been done. After @p patience nobody waits any longer.
  bool run(Job job, std::chrono::milliseconds patience);

  /// Waits for the job.
  void finish();

private:
  void work();

  std::mutex mutex_; ///< Guards what follows.
  std::condition_variable ended_;
  bool busy_ = false;
  Job next_;
  std::jthread thread_;
};

} // namespace vfio_shim
