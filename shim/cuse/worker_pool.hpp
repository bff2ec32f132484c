/// @file
/// The threads that serve all sessions.
#pragma once

#include "cuse/session.hpp"

#include "vfio_shim/fd.hpp"

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace vfio_shim::cuse {

/// As many threads as there is work: one is always free to take the next message, because a call
/// may block in its client for as long as the client likes, and because calls wait for one another
/// (VFIO_GROUP_SET_CONTAINER asks a container who it is).
class WorkerPool {
public:
  WorkerPool();
  WorkerPool(const WorkerPool &) = delete;
  WorkerPool &operator=(const WorkerPool &) = delete;
  /// Lets every worker finish what it is doing.
  ~WorkerPool();

  /// Serves @p session from now on.
  void add(std::shared_ptr<Session> session);

  /// Serves @p session no more; a call that is being served goes on.
  void remove(const Session &session);

private:
  static constexpr int fewest_idle = 1;
  static constexpr int most_idle = 4;
  static constexpr int idle_patience_ms = 5000;

  enum class Next : std::uint8_t { go_on, retire };

  void start_worker();
  void work();
  Next serve_next(Message &message);
  std::shared_ptr<Session> find(std::uint64_t key);
  void rearm(std::uint64_t key, const Session &session);
  void about_to_block();
  Next done_blocking();
  Next idle_for_long();

  Fd epoll_;
  Fd wake_all_;      ///< An eventfd that stays readable once the pool stops.
  std::mutex mutex_; ///< Guards everything below.
  std::condition_variable all_gone_;
  std::map<std::uint64_t, std::shared_ptr<Session>> sessions_;
  std::uint64_t last_key_ = 0;
  int workers_ = 0;
  int idle_ = 0;
  bool stopping_ = false;
};

} // namespace vfio_shim::cuse
