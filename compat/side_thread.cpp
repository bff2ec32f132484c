// SPDX-License-Identifier: MIT
#include "vfio_shim/side_thread.hpp"

#include <system_error>
#include <utility>

namespace vfio_shim {

bool SideThread::run(Job job, std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  next_ = std::move(job);
  if (busy_)
    return false;
  try {
    thread_ = std::jthread([this] { work(); }); // The one before is as good as over.
  } catch (const std::system_error &) {
    return false; // There is no thread to be had now.
  }
  busy_ = true;
  return ended_.wait_for(lock, patience, [this] { return !busy_; });
}

void SideThread::finish() {
  std::jthread last;
  {
    const std::scoped_lock lock(mutex_);
    std::swap(last, thread_);
  }
}

void SideThread::work() {
  std::unique_lock lock(mutex_);
  while (const Job job = std::exchange(next_, nullptr)) {
    lock.unlock();
    job();
    lock.lock();
  }
  busy_ = false;
  ended_.notify_all();
}

} // namespace vfio_shim
