// SPDX-License-Identifier: MIT
#include "cuse/succession.hpp"

#include "client/calling_thread.hpp"

#include <algorithm>
#include <chrono>

#include <poll.h>

#include "keeper/pidfd.hpp"

namespace vfio_shim::cuse {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds patience{5};

} // namespace

bool Succession::outlast(const std::vector<Fd> &processes) {
  for (const Fd &process : processes)
    predecessors_.insert(keeper::process_behind(process));
  const bool ended = await_end(processes);
  predecessors_live_ = false; // Or nobody waits for them.
  for (const auto &session : sessions_)
    (void)session->ask_again();
  take_what_is_there();
  return ended;
}

bool Succession::await_end(const std::vector<Fd> &processes) {
  const auto until = Clock::now() + patience;
  for (const Fd &process : processes) {
    std::vector<pollfd> events{{.fd = process.get(), .events = POLLIN, .revents = 0}};
    for (const auto &session : sessions_)
      events.push_back({.fd = session->fd(), .events = POLLIN, .revents = 0});
    while ((events.front().revents & POLLIN) == 0) {
      if (Clock::now() >= until)
        return false;
      take_what_is_there();
      constexpr int glance_ms = 100;
      ::poll(events.data(), events.size(), glance_ms);
    }
  }
  return true;
}

void Succession::take_what_is_there() {
  for (const auto &session : sessions_)
    for (Message message; session->receive(message, true); message = Message())
      sort_out(session, std::move(message));
}

bool Succession::is_predecessors(const Message &message) const {
  return predecessors_.contains(client::process_of(message.caller()));
}

void Succession::sort_out(const std::shared_ptr<Session> &session, Message message) {
  const auto opcode = message.opcode();
  if (predecessors_live_ && !is_predecessors(message))
    return; // It comes again.
  if (is_predecessors(message)) {
    if (opcode == FUSE_IOCTL && message.command() == identify_)
      return session->answer(message.number(), ENOTTY);
    if (opcode == FUSE_OPEN) { // For a client, whose call comes again.
      ended_opens_.emplace(session->name(), message.first_number());
      return session->answer(message.number(), EINTR);
    }
    // Its end waits for this. What there is to do is done later all the same.
    if (opcode == FUSE_RELEASE)
      session->answer(message.number(), 0);
  }
  held_.push_back({.session = session, .message = std::move(message)});
}

std::vector<Succession::Held> Succession::messages() && {
  std::ranges::sort(held_, {}, [](const Held &held) { return held.message.first_number(); });
  return std::move(held_);
}

bool Succession::opens(const std::string &device, std::uint64_t number) const {
  if (ended_opens_.contains({device, number}))
    return true;
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
