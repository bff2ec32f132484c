// SPDX-License-Identifier: MIT
#include "cuse/caller_watch.hpp"

#include "client/calling_thread.hpp"
#include "client/thread_state.hpp"

#include <cerrno>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace vfio_shim::cuse {

namespace {

using Clock = std::chrono::steady_clock;

/// Ordinary calls are over by then.
constexpr std::chrono::milliseconds long_call{100};
/// The janitor's rounds, after which it stops looking until there is another call.
constexpr int most_quiet_looks = 50;

thread_local CallerWatch::Ticket being_served; // NOLINT(*-avoid-non-const-global-variables)

} // namespace

void CallerWatch::begin(std::shared_ptr<Session> session, const Message &message) {
  auto call = std::make_shared<const Call>(Call{.session = std::move(session),
                                                .number = message.number(),
                                                .caller = message.caller(),
                                                .hold = std::make_shared<client::CallerHold>(),
                                                .received = Clock::now()});
  being_served = call;
  const std::scoped_lock lock(mutex_);
  calls_.push_back(call);
  quiet_looks_ = 0;
  if (!std::exchange(looking_, true))
    janitor_.repeat([self = shared_from_this()] { return self->look(); });
}

void CallerWatch::end() {
  being_served.reset();
}

CallerWatch::Ticket CallerWatch::current() {
  return being_served;
}

std::vector<std::string> CallerWatch::describe() {
  std::set<std::string> calls; // Many calls of one client are one line.
  for (const Ticket &call : all())
    calls.insert(fmt::format("a call of {} on /dev/{}",
                             client::describe_process(client::process_of(call->caller)),
                             call->session->name()));
  return {calls.begin(), calls.end()};
}

/// @return Whether to look again.
bool CallerWatch::look() {
  const auto calls = all();
  for (const Ticket &call : calls)
    if (Clock::now() - call->received >= long_call && client::is_being_killed(call->caller) &&
        call->hold->revoke())
      call->session->answer(call->number, EINTR);
  const std::scoped_lock lock(mutex_);
  looking_ = ++quiet_looks_ < most_quiet_looks || !calls.empty();
  return looking_;
}

std::vector<CallerWatch::Ticket> CallerWatch::all() {
  std::vector<Ticket> all;
  const std::scoped_lock lock(mutex_);
  std::erase_if(calls_, [&all](const auto &each) {
    auto call = each.lock();
    const bool is_over = call == nullptr;
    if (!is_over)
      all.push_back(std::move(call));
    return is_over;
  });
  return all;
}

} // namespace vfio_shim::cuse
