// SPDX-License-Identifier: MIT
#pragma once

#include "client/provider.h"

#include <chrono>
#include <optional>
#include <set>
#include <vector>

#include <sys/types.h>

namespace legacy {

/// The providers under test whose supervisor serves this process.
std::vector<Provider> supervised_providers();

/// The process that serves this process's trapped calls (`vfio-shim run`), under a debugger: it can
/// be held where it begins to do something to a caller, of which it knows no more than a thread id.
///
/// To be used by one thread. Must not live while this process itself makes a trapped call.
class HeldSupervisor {
public:
  /// @param also A request of ptrace(2) that it is to be held at, too.
  /// Throws std::runtime_error if there is no supervisor, std::system_error.
  explicit HeldSupervisor(std::optional<long> also = std::nullopt);
  HeldSupervisor(const HeldSupervisor &) = delete;
  HeldSupervisor &operator=(const HeldSupervisor &) = delete;
  ~HeldSupervisor();

  /// Lets it run until one of its threads is about to seize a thread, or to write to a process's
  /// memory. Again: until the next such moment. @return Whether it came within `patience`.
  bool is_held_within(std::chrono::milliseconds patience);
  /// Kills it.
  void kill();
  /// Lets it go on, and waits until it has nothing more to do. @return Whether that happened.
  bool finishes_within(std::chrono::milliseconds patience);

private:
  /// @return Whether the thread is where it is to be held.
  bool handle_stop(pid_t thread, int status);
  bool is_about_to_act(pid_t thread) const;
  void let_go();

  pid_t process_;
  std::optional<long> also_;
  std::set<pid_t> threads_; ///< All are traced.
  pid_t held_ = 0;
};

} // namespace legacy
