// SPDX-License-Identifier: MIT
/// @file
/// Callers that are killed while their calls take their time.
#pragma once

#include "client/caller_hold.hpp"
#include "cuse/janitor.hpp"
#include "cuse/session.hpp"

#include "vfio_shim/units.hpp"

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace vfio_shim::cuse {

/// Knows every call from when it was received until nobody serves it any more, and answers it in
/// its server's place if its caller is about to die.
///
/// The kernel does not let a killed thread go before its call is answered. But the call may be
/// waiting for that very process, for a page that only it can provide (userfaultfd): neither would
/// ever end. When the thread is let go, its process ends, and with it what the call waits for. Its
/// server is told first not to use the thread's id any more.
class CallerWatch : public std::enable_shared_from_this<CallerWatch> {
public:
  /// One call on its way. It is watched as long as somebody has this.
  struct Call {
    std::shared_ptr<Session> session;
    std::uint64_t number; ///< The kernel's.
    Tid caller;
    std::shared_ptr<client::CallerHold> hold; ///< For who serves it.
    std::chrono::steady_clock::time_point received;
  };
  using Ticket = std::shared_ptr<const Call>;

  /// @param janitor Looks after the callers while there are calls; outlives this object's use.
  explicit CallerWatch(Janitor &janitor) : janitor_(janitor) {}

  /// Watches the call in @p message from now on, as the one that the calling thread serves.
  void begin(std::shared_ptr<Session> session, const Message &message);
  /// The calling thread serves it no more; somebody else may still have its ticket.
  static void end();

  /// The call that the calling thread serves, for one that is to be served later.
  static Ticket current();

  /// The calls that are being served or wait for others, for the log: "a call of qemu[12] on
  /// /dev/vfio/vfio".
  std::vector<std::string> describe();

private:
  bool look();
  std::vector<Ticket> all();

  Janitor &janitor_;
  std::mutex mutex_; ///< Guards what follows.
  std::list<std::weak_ptr<const Call>> calls_;
  bool looking_ = false; ///< The janitor does.
  int quiet_looks_ = 0;  ///< How often there has been nothing to look at.
};

} // namespace vfio_shim::cuse
