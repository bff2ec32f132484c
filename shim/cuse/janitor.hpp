// SPDX-License-Identifier: MIT
/// @file
/// Work that cannot be done yet, because a client is in the way.
#pragma once

#include "vfio_shim/result.hpp"

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

namespace vfio_shim::cuse {

/// Repeats jobs until they are done, in a thread of its own that sleeps while there are none. A job
/// must not wait for a client: all the others would wait with it.
class Janitor {
public:
  /// @return Whether the job must be tried again later.
  using Job = std::function<bool()>;

  /// @return EAGAIN: there is no thread to be had.
  static Result<std::unique_ptr<Janitor>> create();

  Janitor(const Janitor &) = delete;
  Janitor &operator=(const Janitor &) = delete;
  /// Drops what is not done.
  ~Janitor() = default;

  void repeat(Job job);

private:
  Janitor();

  void clean(const std::stop_token &stop);

  std::mutex mutex_; ///< Guards jobs_.
  std::condition_variable_any changed_;
  std::list<Job> jobs_;
  std::jthread thread_; ///< Last: it uses all of the above.
};

} // namespace vfio_shim::cuse
