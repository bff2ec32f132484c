/// @file
/// Work that must be done some time, and may have to wait for a client.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <stop_token>
#include <thread>

namespace vfio_shim::cuse {

/// Repeats jobs until they are done, in a thread of its own that sleeps while there are none.
class Janitor {
public:
  /// @return Whether the job must be tried again later.
  using Job = std::function<bool()>;

  Janitor();
  Janitor(const Janitor &) = delete;
  Janitor &operator=(const Janitor &) = delete;
  /// Drops what is not done.
  ~Janitor() = default;

  void repeat(Job job);

private:
  void clean(const std::stop_token &stop);

  std::mutex mutex_; ///< Guards jobs_.
  std::condition_variable_any changed_;
  std::list<Job> jobs_;
  std::jthread thread_; ///< Last: it uses all of the above.
};

} // namespace vfio_shim::cuse
