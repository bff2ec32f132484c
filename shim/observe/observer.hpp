// SPDX-License-Identifier: MIT
/// @file
/// Where everything goes that is observed of calls.
#pragma once

#include "observe/observed_file.hpp"
#include "observe/recorder.hpp"
#include "observe/statistics.hpp"
#include "observe/trace_layout.hpp"
#include "observe/usage_keeper.hpp"
#include "observe/warning_budget.hpp"

#include "vfio_shim/units.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace vfio_shim::observe {

/// Hands what was observed of each call on: to the statistics and, if there are any, to the
/// recording and to the book of who uses what. Thread-safe; never blocks a call.
class Observer {
public:
  using Clock = std::chrono::steady_clock;

  /// @param statistics Outlives this object.
  /// @param recorder Outlives this object. nullptr: nothing is recorded.
  /// @param usage Outlives this object. nullptr: no book is kept.
  /// @param sequence Where records are counted; outlives this object. nullptr: here.
  explicit Observer(Statistics &statistics, Recorder *recorder = nullptr,
                    UsageKeeper *usage = nullptr, std::atomic<std::uint64_t> *sequence = nullptr)
      : statistics_(statistics),
        recorder_(recorder),
        usage_(usage),
        last_sequence_(sequence != nullptr ? *sequence : own_sequence_) {}

  /// A client opens a node. @param group Of a group's node.
  std::shared_ptr<ObservedFile> opening(FileNumber file, Pid client,
                                        std::optional<GroupId> group = {});

  /// Whether it matters who calls: finding out costs a look at /proc.
  bool wants_callers() const { return recorder_ != nullptr; }

  std::uint64_t next_sequence() { return ++last_sequence_; }
  /// Nanoseconds from when the recording began.
  std::uint64_t since_beginning(Clock::time_point when) const;

  /// Logs what a client has provoked, if the budget for that is not spent.
  /// @param line Makes the line; called only if it is logged.
  void warn(const std::function<std::string()> &line);

  /// A call on @p file has been answered.
  void add(const trace::Record &record, const ObservedFile &file);

private:
  Statistics &statistics_;
  Recorder *const recorder_;
  UsageKeeper *const usage_;
  WarningBudget warnings_;
  std::atomic<std::uint64_t> own_sequence_ = 0;
  std::atomic<std::uint64_t> &last_sequence_;
};

} // namespace vfio_shim::observe
