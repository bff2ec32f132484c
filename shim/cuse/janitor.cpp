// SPDX-License-Identifier: MIT
#include "cuse/janitor.hpp"

#include <chrono>
#include <system_error>

namespace vfio_shim::cuse {

Result<std::unique_ptr<Janitor>> Janitor::create() {
  try {
    return std::unique_ptr<Janitor>(new Janitor);
  } catch (const std::system_error &error) {
    return fail(error.code().value(), "starting the janitor's thread");
  }
}

Janitor::Janitor() : thread_([this](const std::stop_token &stop) { clean(stop); }) {}

void Janitor::repeat(Job job) {
  const std::scoped_lock lock(mutex_);
  jobs_.push_back(std::move(job));
  changed_.notify_one();
}

void Janitor::clean(const std::stop_token &stop) {
  constexpr std::chrono::milliseconds pause{20};
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !jobs_.empty(); })) {
    std::list<Job> round;
    round.swap(jobs_);
    lock.unlock();
    round.remove_if([&stop](const Job &job) { return stop.stop_requested() || !job(); });
    lock.lock();
    jobs_.splice(jobs_.begin(), round);
    if (!jobs_.empty())
      changed_.wait_for(lock, stop, pause, [] { return false; });
  }
}

} // namespace vfio_shim::cuse
