// SPDX-License-Identifier: MIT
#include "cuse/call_queue.hpp"

#include <cerrno>
#include <exception>

namespace vfio_shim::cuse {

void CallQueue::submit(std::unique_ptr<Call> call, const std::function<void(Call &)> &serve) {
  {
    const std::scoped_lock lock(mutex_);
    if (serving_) {
      waiting_.push_back({.call = std::move(call), .ticket = CallerWatch::current()});
      return;
    }
    serving_ = true;
  }
  Entry entry{.call = std::move(call), .ticket = CallerWatch::current()};
  while (entry.call) {
    try {
      serve(*entry.call);
    } catch (
        const std::exception &) { // For want of memory. Those behind it shall not wait for ever.
      entry.call->answer_if_nobody_has(ENOMEM);
    }
    entry = next();
  }
}

CallQueue::Entry CallQueue::next() {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty()) {
    serving_ = false;
    return {};
  }
  Entry entry = std::move(waiting_.front());
  waiting_.pop_front();
  return entry;
}

} // namespace vfio_shim::cuse
