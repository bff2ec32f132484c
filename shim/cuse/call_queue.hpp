// SPDX-License-Identifier: MIT
/// @file
/// The calls on one open file, one after the other.
#pragma once

#include "cuse/call.hpp"
#include "cuse/caller_watch.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace vfio_shim::cuse {

/// Serves the calls on one open file in their order, in the thread of whoever brings one while none
/// is being served. So a client that makes its calls block occupies one worker per open file, not
/// one per thread of its own.
class CallQueue {
public:
  /// Serves @p call with @p serve, now or after those before it. The caller keeps the queue alive:
  /// an answered client may close the file at once.
  void submit(std::unique_ptr<Call> call, const std::function<void(Call &)> &serve);

private:
  /// A call whose caller is being watched all the while.
  struct Entry {
    std::unique_ptr<Call> call;
    CallerWatch::Ticket ticket;
  };

  Entry next();

  std::mutex mutex_;
  std::deque<Entry> waiting_;
  bool serving_ = false;
};

} // namespace vfio_shim::cuse
