// SPDX-License-Identifier: MIT
/// @file
/// The threads that serve all sessions.
#pragma once

#include "cuse/caller_watch.hpp"
#include "cuse/janitor.hpp"
#include "cuse/pace.hpp"
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
#include <thread>
#include <vector>

namespace vfio_shim::cuse {

/// As many threads as there is work: one is always free to take the next message, because a call
/// may block in its client for as long as the client likes, and because calls wait for one another
/// (VFIO_GROUP_SET_CONTAINER asks a container who it is). While the system has no thread to give,
/// messages wait, and the pool tries again.
///
/// Waking a thread takes longer than most calls. So when a client calls again and again (Pace), the
/// worker that serves it keeps the session to itself, and looks for the next message before it
/// sleeps. It lets others in before a call that may take its time, and a timer does so if a call
/// takes long all the same.
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

  /// What the calling worker serves may take its time: lets others serve its session, too.
  static void let_others_in();

private:
  static constexpr int fewest_idle = 1;
  static constexpr int most_idle = 4;
  static constexpr int idle_patience_ms = 5000;

  enum class Next : std::uint8_t { go_on, retire };

  /// A session, and who serves it.
  struct Served {
    std::uint64_t key;
    std::shared_ptr<Session> session;
    Pace pace{};
    std::thread::id keeper{};        ///< Who takes its messages alone. None: whoever is free.
    bool under_way = false;          ///< The keeper carries a message out,
    Pace::Clock::time_point since{}; ///< since then.
  };
  struct Waiting {
    Fd epoll;
    Fd wake_all; ///< An eventfd that stays readable once the pool stops.
    Fd overdue;  ///< A timer that runs while sessions are kept.
  };

  WorkerPool(Janitor &janitor, Waiting waiting);

  Result<void> start_worker();
  void carry_out_first(std::shared_ptr<Session> session, Message message);
  void have_one_idle();
  bool is_short_of_workers() const { return idle_ < fewest_idle && !stopping_; }
  void begin_stop();
  void work();
  void retire();
  Next serve_next(Message &message);
  Next serve_burst(Served &served, Message &message);
  Next serve_one(Served &served, const Message &message);
  std::shared_ptr<Served> take(std::uint64_t key);
  void keep(Served &served);
  void let_in(Served &served);
  void let_in_if_kept(Served &served);
  void look_for_overdue();
  void about_to_block();
  Next done_blocking();
  Next idle_for_long();

  Janitor &janitor_;
  const std::shared_ptr<CallerWatch> callers_;
  const Waiting waiting_;
  const bool may_keep_; ///< Not with a single CPU: who looks for a message keeps its sender away.
  std::mutex mutex_;    ///< Guards everything below, and what is known of sessions.
  std::condition_variable all_gone_;
  std::map<std::uint64_t, std::shared_ptr<Served>> sessions_;
  std::uint64_t last_key_ = 0;
  int workers_ = 0;
  int idle_ = 0;
  bool awaiting_threads_ = false; ///< The janitor tries to start one.
  bool timing_ = false;           ///< The timer runs.
  bool stopping_ = false;
};

} // namespace vfio_shim::cuse
