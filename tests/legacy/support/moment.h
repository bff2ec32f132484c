// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

#include "child.h"
#include "surviving_daemon.h"

namespace legacy {

/// One call of a client's, in the midst of which the daemon's worker is killed. Made before the
/// client is forked, which has one thread: it makes the call, and its parent kills.
class Moment {
public:
  /// In the client: makes the call when its parent says so. @return What the call has answered, as
  /// soon as a worker serves again. Throws std::runtime_error if the parent says nothing.
  template <typename Call>
  auto during(const Call &call) const {
    ready_.announce();
    wait_for(go_);
    auto answer = call();
    answered_.announce();
    wait_for(go_on_);
    return answer;
  }

  /// In the parent: lets the call be made, and kills nobody. @return How long that took, with the
  /// time to wake the client and to be woken.
  std::chrono::microseconds pass() const;
  /// In the parent: lets the call be made, kills the worker `delay` later, and waits for the next
  /// one and for the answer. @return Whether there was no answer yet when the worker was killed.
  bool kill(SurvivingDaemon &daemon, std::chrono::microseconds delay) const;

private:
  static void wait_for(const Signpost &signpost);

  const Signpost ready_, go_, answered_, go_on_;
};

} // namespace legacy
