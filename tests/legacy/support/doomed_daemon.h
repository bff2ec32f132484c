// SPDX-License-Identifier: MIT
#pragma once

#include "client/provider.h"

#include <functional>
#include <set>

#include <sys/types.h>

namespace legacy {

/// A daemon of this process's own, under a debugger, that is killed in the middle of a borrow.
///
/// To be used by one thread, for one call at a time.
class DoomedDaemon {
public:
  /// Starts it, and waits until it serves `group`. Throws std::runtime_error, std::system_error.
  explicit DoomedDaemon(GroupId group);
  DoomedDaemon(const DoomedDaemon &) = delete;
  DoomedDaemon &operator=(const DoomedDaemon &) = delete;
  /// Kills it.
  ~DoomedDaemon();

  /// Its nodes. They are the same for all of these daemons.
  static Provider provider();

  /// What dies of it.
  enum class Dies { Everything, TheWorker };

  /// From now on its worker is stopped at its system calls.
  void watch();
  /// Kills it where the thread that borrows makes its `step`th system call, on the way in or on the
  /// way out, counting from when it seizes a thread. @return False if it has not come to that when
  /// `over` says yes; then it lives.
  bool dies_at(int step, Dies what, const std::function<bool()> &over);

private:
  void seize(pid_t thread);
  /// @return Whether the thread is at a step of a borrow.
  bool handle_stop(pid_t thread, int status);
  void kill();
  void kill_worker();

  pid_t process_ = 0; ///< The keeper.
  pid_t worker_ = 0;  ///< Once it is watched.
  pid_t borrower_ = 0;
  std::set<pid_t> threads_; ///< All are traced.
};

} // namespace legacy
