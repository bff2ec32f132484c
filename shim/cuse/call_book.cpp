// SPDX-License-Identifier: MIT
#include "cuse/call_book.hpp"

#include "observe/process_identity.hpp"

#include "vfio_shim/process_memory.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <tuple>

#include <fmt/format.h>

namespace vfio_shim::cuse {

namespace {

using observe::layout::Call;

constexpr unsigned int most_deaths = 10;
constexpr std::chrono::nanoseconds deaths_count_for = std::chrono::minutes(1);

Intention intention_of(const Call &body) {
  return {.kind = static_cast<Intention::Kind>(body.intention),
          .range = {Iova{body.iova}, Iova{body.last}},
          .vaddr = ClientAddr{body.vaddr},
          .size = Bytes{body.size}};
}

/// Whether the thread that makes the call has its answer, or gets it by itself.
bool is_answered(const Call &body) {
  if (body.place == 0)
    return false;
  std::uint64_t answered = 0;
  return read_memory(Tid{body.thread},
                     ClientAddr{body.place} + Bytes{offsetof(arch::Mending, answered)},
                     std::as_writable_bytes(std::span(&answered, 1))) &&
         answered == body.id;
}

std::uint64_t start_of(Tid thread) {
  return observe::identify(Pid{thread.value}).started;
}

bool is_on(const Call &body, FileNumber file) {
  return body.file == file.value;
}

} // namespace

Result<void> CallBook::Entry::check() const {
  if (refused_)
    return fail_for_operator(ENOMEM, "the ledger has no room for another call");
  if (deaths_ >= most_deaths)
    return fail_for_operator(
        EIO, fmt::format("{} workers have died in this call within a minute", deaths_));
  return {};
}

void CallBook::Entry::about_to(const Intention &intention) {
  ledger_.call_goes_on(record_, [&intention](Call &body) {
    body.iova = intention.range.first.value;
    body.last = intention.range.last.value;
    body.vaddr = intention.vaddr.value;
    body.size = intention.size.value;
    body.intention = static_cast<std::uint64_t>(intention.kind);
  });
}

void CallBook::Entry::answered_early() {
  ledger_.call_goes_on(record_, [](Call &body) { body.early = 1; });
}

void CallBook::Entry::mends_at(ClientAddr place) {
  ledger_.call_goes_on(record_, [place](Call &body) { body.place = place.value; });
}

void CallBook::Entry::answered() {
  if (record_ != 0)
    ledger_.call_ends(std::exchange(record_, 0));
}

std::unique_ptr<CallBook::Entry> CallBook::begin(const Identity &call) {
  std::unique_ptr<Entry> entry(new Entry(ledger_));
  Call body{};
  body.file = call.file.value;
  body.unique = call.unique;
  body.argument = call.argument;
  body.command = call.command;
  body.thread = call.thread.value;
  body.attempts = 1;
  auto awaited = any_awaited_ ? take_awaited(call) : std::nullopt;
  if (awaited) {
    const auto time = observe::ledger_time();
    const bool counts =
        awaited->body.first != 0 && time - awaited->body.first < deaths_count_for.count();
    body.first = counts ? awaited->body.first : time;
    body.attempts = counts ? awaited->body.attempts + 1 : 2;
    entry->deaths_ = body.attempts - 1;
    entry->outcome_ = awaited->outcome;
    body.size = awaited->outcome.size.value;
    body.intention = awaited->body.intention;
  }
  std::tie(entry->record_, entry->id_) = ledger_.call_begins(body);
  entry->refused_ = entry->record_ == 0;
  if (awaited)
    drop(*awaited); // The new notes say the same.
  return entry;
}

void CallBook::inherit(observe::Inheritance &inheritance, const Settle &settle) {
  const std::scoped_lock lock(mutex_);
  for (const auto &[record, body] : inheritance.calls) {
    Awaited call{.record = record, .body = body, .area = {}};
    call.outcome = settle(FileNumber{body.file}, intention_of(body));
    // What is settled now is not to be settled a second time.
    call.body.intention = static_cast<std::uint64_t>(
        call.outcome.carried_out ? Intention::Kind::done : Intention::Kind::none);
    ledger_.call_goes_on(record,
                         [&call](Call &changed) { changed.intention = call.body.intention; });
    call.thread_started = start_of(Tid{body.thread});
    awaited_.push_back(std::move(call));
  }
  for (const auto &[record, body] : inheritance.areas) {
    client::ClientArea area(client::AreaEntry{.process = Pid{static_cast<int>(body.pid)},
                                              .address = ClientAddr{body.address},
                                              .mark = body.mark});
    area.record = record;
    const Pid process{static_cast<int>(body.pid)};
    const auto stands_in = std::ranges::find_if(awaited_, [&](const Awaited &call) {
      return call.body.place != 0 && area.has(ClientAddr{call.body.place}) && !call.area;
    });
    if (stands_in == awaited_.end()) {
      areas_.give_back(process, area);
      continue;
    }
    stands_in->area = area;
    stands_in->process = process;
  }
  any_awaited_ = !awaited_.empty();
}

void CallBook::expect(const std::set<std::pair<FileNumber, std::uint64_t>> &come) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(awaited_, [&](Awaited &call) {
    if (call.body.early != 0 || come.contains({FileNumber{call.body.file}, call.body.unique}))
      return false;
    drop(call);
    return true;
  });
  any_awaited_ = !awaited_.empty();
}

void CallBook::forget(FileNumber file) {
  if (!any_awaited_)
    return;
  const std::scoped_lock lock(mutex_);
  std::erase_if(awaited_, [&](Awaited &call) {
    if (!is_on(call.body, file))
      return false;
    drop(call);
    return true;
  });
  any_awaited_ = !awaited_.empty();
}

/// The first call of that thread on that file is the one, if it looks like it and the thread has
/// not had its answer. Its thread stands in no area of ours any more, whichever call it is.
std::optional<CallBook::Awaited> CallBook::take_awaited(const Identity &call) {
  std::optional<Awaited> taken;
  for (Awaited &one : take_all_of(call)) {
    // Not with the lock held: the client may make it wait to be read.
    const bool is_it = one.body.early == 0 ||
                       (one.body.command == call.command && one.body.argument == call.argument &&
                        one.thread_started == start_of(call.thread) && !is_answered(one.body));
    // There are two if a worker has died just when it took the first one's place.
    if (is_it && !taken)
      taken = std::move(one);
    else
      drop(one);
  }
  return taken;
}

std::list<CallBook::Awaited> CallBook::take_all_of(const Identity &call) {
  const std::scoped_lock lock(mutex_);
  std::list<Awaited> taken;
  for (auto at = awaited_.begin(); at != awaited_.end();) {
    const auto next = std::next(at);
    if (is_on(at->body, call.file) && (at->body.early != 0 ? at->body.thread == call.thread.value
                                                           : at->body.unique == call.unique))
      taken.splice(taken.end(), awaited_, at);
    at = next;
  }
  any_awaited_ = !awaited_.empty();
  return taken;
}

void CallBook::drop(Awaited &awaited) {
  ledger_.call_ends(awaited.record);
  if (const auto area = std::exchange(awaited.area, std::nullopt))
    areas_.give_back(awaited.process, *area);
}

} // namespace vfio_shim::cuse
