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
/// waiting for an answer to a message of their own, which only we can give. So we answer those, and
/// leave everything else for later.
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

  /// Waits until the process has ended, for some seconds at most. @param process A pidfd.
  /// @return Whether it has.
  bool outlast(const Fd &process, Pid pid);

  /// What there is to do, in the order in which the kernel sent it the first time.
  std::vector<Held> messages() &&;

  /// Whether there is a message of that device and number which opens it.
  bool opens(const std::string &device, std::uint64_t number) const;

  /// The calls among these, by their open file and their first number.
  std::set<std::pair<FileNumber, std::uint64_t>> calls() const;

private:
  void take_what_is_there();
  void hold(const std::shared_ptr<Session> &session, Message message);

  std::vector<std::shared_ptr<Session>> sessions_;
  unsigned int identify_;
  Pid predecessor_{};
  std::vector<Held> held_;
};

} // namespace vfio_shim::cuse
