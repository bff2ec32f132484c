// SPDX-License-Identifier: MIT
/// @file
/// The threads that serve all sessions.
#pragma once

#include "cuse/caller_watch.hpp"
#include "cuse/janitor.hpp"
#include "cuse/session.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace vfio_shim::cuse {

/// As many threads as there is work: one is always free to take the next message, because a call
/// may block in its client for as long as the client likes, and because calls wait for one another
/// (VFIO_GROUP_SET_CONTAINER asks a container who it is). While the system has no thread to give,
/// messages wait, and the pool tries again.
class WorkerPool : public std::enable_shared_from_this<WorkerPool> {
public:
  /// @param janitor Tries again to start threads; outlives the pool.
  /// @return The errno of making what the pool waits with. EAGAIN: there is no thread to be had.
  static Result<std::shared_ptr<WorkerPool>> create(Janitor &janitor);

  WorkerPool(const WorkerPool &) = delete;
  WorkerPool &operator=(const WorkerPool &) = delete;
  /// Lets every worker finish what it is doing, however long that takes.
  ~WorkerPool();

  /// Has every worker end after what it is doing.
  /// @return The calls that are still being served at @p deadline, for the log: "a call of qemu[12]
  ///         on /dev/vfio/vfio". None: all workers have ended.
  std::vector<std::string> stop(std::chrono::steady_clock::time_point deadline);

  /// Serves @p session from now on. @return The errno of epoll_ctl().
  Result<void> add(std::shared_ptr<Session> session);

  /// Carries a message out that somebody else has taken, in a worker of its own.
  void carry_out(std::shared_ptr<Session> session, Message message);

  /// Serves @p session no more; a call that is being served goes on.
  void remove(const Session &session);

private:
  static constexpr int fewest_idle = 1;
  static constexpr int most_idle = 4;
  static constexpr int idle_patience_ms = 5000;

  enum class Next : std::uint8_t { go_on, retire };

  WorkerPool(Janitor &janitor, Fd epoll, Fd wake_all)
      : janitor_(janitor),
        callers_(std::make_shared<CallerWatch>(janitor)),
        epoll_(std::move(epoll)),
        wake_all_(std::move(wake_all)) {}

  Result<void> start_worker();
  void carry_out_first(std::shared_ptr<Session> session, Message message);
  void have_one_idle();
  bool is_short_of_workers() const { return idle_ < fewest_idle && !stopping_; }
  void begin_stop();
  void work();
  void retire();
  Next serve_next(Message &message);
  std::shared_ptr<Session> find(std::uint64_t key);
  void rearm(std::uint64_t key, const Session &session);
  void about_to_block();
  Next done_blocking();
  Next idle_for_long();

  Janitor &janitor_;
  const std::shared_ptr<CallerWatch> callers_;
  Fd epoll_;
  Fd wake_all_;      ///< An eventfd that stays readable once the pool stops.
  std::mutex mutex_; ///< Guards everything below.
  std::condition_variable all_gone_;
  std::map<std::uint64_t, std::shared_ptr<Session>> sessions_;
  std::uint64_t last_key_ = 0;
  int workers_ = 0;
  int idle_ = 0;
  bool awaiting_threads_ = false; ///< The janitor tries to start one.
  bool stopping_ = false;
};

} // namespace vfio_shim::cuse
