#include "cuse/call_queue.hpp"

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
    serve(*entry.call);
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
