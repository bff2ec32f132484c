#include "cuse/succession.hpp"

#include "client/calling_thread.hpp"

#include <algorithm>
#include <chrono>

#include <poll.h>

namespace vfio_shim::cuse {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds patience{5};

} // namespace

bool Succession::outlast(const Fd &process, Pid pid) {
  predecessor_ = pid;
  take_what_is_there();
  std::vector<pollfd> events;
  events.push_back({.fd = process.get(), .events = POLLIN, .revents = 0});
  for (const auto &session : sessions_)
    events.push_back({.fd = session->fd(), .events = POLLIN, .revents = 0});
  const auto until = Clock::now() + patience;
  while (process && Clock::now() < until) {
    constexpr int glance_ms = 100;
    ::poll(events.data(), events.size(), glance_ms);
    take_what_is_there();
    if ((events.front().revents & POLLIN) != 0)
      break;
  }
  const bool ended = !process || (events.front().revents & POLLIN) != 0;
  take_what_is_there();
  return ended;
}

void Succession::take_what_is_there() {
  for (const auto &session : sessions_)
    for (Message message; session->receive(message); message = Message())
      hold(session, std::move(message));
}

void Succession::hold(const std::shared_ptr<Session> &session, Message message) {
  const bool is_call = message.opcode() == FUSE_IOCTL;
  const bool is_predecessors =
      predecessor_.value != 0 && client::process_of(message.caller()) == predecessor_;
  if (is_call && message.command() == identify_ && is_predecessors)
    return session->answer(message.number(), ENOTTY);
  // Its end waits for this. Whose file is closed is carried out later all the same.
  if (message.opcode() == FUSE_RELEASE && is_predecessors)
    session->answer(message.number(), 0);
  held_.push_back({.session = session, .message = std::move(message)});
}

std::vector<Succession::Held> Succession::messages() && {
  std::ranges::sort(held_, {}, [](const Held &held) { return held.message.first_number(); });
  return std::move(held_);
}

bool Succession::opens(const std::string &device, std::uint64_t number) const {
  return std::ranges::any_of(held_, [&](const Held &held) {
    return held.message.opcode() == FUSE_OPEN && held.session->name() == device &&
           held.message.first_number() == number;
  });
}

std::set<std::pair<FileNumber, std::uint64_t>> Succession::calls() const {
  std::set<std::pair<FileNumber, std::uint64_t>> calls;
  for (const Held &held : held_)
    if (held.message.opcode() == FUSE_IOCTL)
      calls.emplace(held.message.file(), held.message.first_number());
  return calls;
}

} // namespace vfio_shim::cuse
