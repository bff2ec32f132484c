// SPDX-License-Identifier: MIT
/// @file
/// What a worker does first where another one has died.
#pragma once

#include "cuse/session.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace vfio_shim::cuse {

/// Takes the messages that come once more, until the worker that had them has ended.
///
/// Its threads may still be in the kernel: in a call that changes what we are to take over, or
/// waiting for an answer to a message of their own, which only we can give, or taking one more
/// message. So we answer those, and have everything else sent once more when they have gone.
class Succession {
public:
  /// A message that is to be carried out.
  struct Held {
    std::shared_ptr<Session> session;
    Message message;
  };

  /// @param sessions All that were taken over. @param identify The command of the one ioctl that
  ///        workers make on files of their own.
  Succession(std::vector<std::shared_ptr<Session>> sessions, unsigned int identify)
      : sessions_(std::move(sessions)), identify_(identify) {}

  /// Waits until the processes have ended, for some seconds at most.
  /// @param processes Their pidfds.
  /// @return Whether they have.
  bool outlast(const std::vector<Fd> &processes);

  /// What there is to do, in the order in which the kernel sent it the first time.
  std::vector<Held> messages() &&;

  /// Whether there is a message of that device and number which opens it, or was one of a worker
  /// that has died.
  bool opens(const std::string &device, std::uint64_t number) const;

  /// The calls among these, by their open file and their first number.
  std::set<std::pair<FileNumber, std::uint64_t>> calls() const;

private:
  void take_what_is_there();
  void sort_out(const std::shared_ptr<Session> &session, Message message);
  bool is_predecessors(const Message &message) const;
  bool await_end(const std::vector<Fd> &processes);

  std::vector<std::shared_ptr<Session>> sessions_;
  unsigned int identify_;
  std::set<Pid> predecessors_;
  bool predecessors_live_ = true;
  std::vector<Held> held_;
  std::set<std::pair<std::string, std::uint64_t>> ended_opens_;
};

} // namespace vfio_shim::cuse
