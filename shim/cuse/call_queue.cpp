#include "cuse/call_queue.hpp"

namespace vfio_shim::cuse {

void CallQueue::submit(std::unique_ptr<Call> call, const std::function<void(Call &)> &serve) {
  {
    const std::scoped_lock lock(mutex_);
    if (serving_) {
      waiting_.push_back(std::move(call));
      return;
    }
    serving_ = true;
  }
  while (call) {
    serve(*call);
    call = next();
  }
}

std::unique_ptr<Call> CallQueue::next() {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty()) {
    serving_ = false;
    return nullptr;
  }
  auto call = std::move(waiting_.front());
  waiting_.pop_front();
  return call;
}

} // namespace vfio_shim::cuse
