// SPDX-License-Identifier: MIT
#include "observe/observed_call.hpp"

#include "observe/probes.hpp"
#include "rules/operations.hpp"

#include <algorithm>

namespace vfio_shim::observe {

namespace {

using Nanoseconds = std::chrono::nanoseconds;

/// Where @p bytes, which lie at @p address, go in a copy of what lies at @p base.
struct Overlap {
  std::size_t offset = 0;
  std::span<const std::byte> bytes;
};

Overlap overlap_of(std::uint64_t base, ClientAddr address, std::span<const std::byte> bytes) {
  if (address.value < base || address.value - base >= trace::most_bytes)
    return {};
  const std::size_t offset = address.value - base;
  return {.offset = offset,
          .bytes = bytes.first(std::min(bytes.size(), trace::most_bytes - offset))};
}

/// A name is read in pieces that may reach beyond its end.
void cut_after_string(trace::Record &record) {
  auto *const end = std::ranges::find(record.before, std::byte{0});
  std::fill(end, record.before.end(), std::byte{0});
  record.after = record.before;
  record.was_read =
      std::min(record.was_read, static_cast<std::uint16_t>(end - record.before.begin() + 1));
}

} // namespace

ObservedCall::ObservedCall(Observer &observer, trace::Kind kind, std::shared_ptr<ObservedFile> file,
                           Tid thread, std::uint32_t command, std::uint64_t argument)
    : observer_(observer), file_(std::move(file)), spending_(&record_.in) {
  record_.at = observer.since_beginning(received_);
  record_.kind = kind;
  record_.file = trace::file_of(file_->number());
  record_.group = file_->group().value_or(GroupId{}).value;
  record_.of_group = file_->group() ? 1 : 0;
  record_.thread = thread.value;
  record_.command = command;
  record_.argument = argument;
}

void ObservedCall::begins(const std::function<Pid()> &process_of_thread) {
  spend_time_on(own_work_);
  record_.sequence = observer_.next_sequence();
  VFIO_SHIM_PROBE_CALL_ENTRY(record_.sequence, record_.thread, record_.file, record_.command,
                             record_.argument);
  if (!observer_.wants_callers())
    return;
  const auto caller = record_.kind == trace::Kind::call
                          ? file_->caller(Tid{record_.thread}, process_of_thread)
                          : file_->opener();
  record_.pid = caller.pid.value;
  record_.client = caller.command;
}

void ObservedCall::answering() {
  answering_ = true;
  if (!borrowed_)
    spend_time_on(record_.out);
}

void ObservedCall::answered(long result, int error) {
  spend_time_on(own_work_);
  record_.total = static_cast<std::uint64_t>(Nanoseconds(since_ - received_).count());
  record_.result = result;
  record_.error = error;
  const auto *const operation = rules::find_operation(record_.command);
  if (operation != nullptr && operation->kind == rules::ArgumentKind::string)
    cut_after_string(record_);
  VFIO_SHIM_PROBE_CALL_RETURN(record_.sequence, record_.thread, record_.command, record_.result,
                              record_.error, record_.total);
  observer_.add(record_, *file_);
}

void ObservedCall::was_read(ClientAddr from, std::span<const std::byte> bytes) {
  const auto [offset, seen] = overlap_of(record_.argument, from, bytes);
  std::ranges::copy(seen, record_.before.begin() + static_cast<std::ptrdiff_t>(offset));
  std::ranges::copy(seen, record_.after.begin() + static_cast<std::ptrdiff_t>(offset));
  record_.was_read = std::max(record_.was_read,
                              static_cast<std::uint16_t>(seen.empty() ? 0 : offset + seen.size()));
}

void ObservedCall::was_written(ClientAddr to, std::span<const std::byte> bytes) {
  const auto [offset, seen] = overlap_of(record_.argument, to, bytes);
  std::ranges::copy(seen, record_.after.begin() + static_cast<std::ptrdiff_t>(offset));
  record_.was_written = std::max(
      record_.was_written, static_cast<std::uint16_t>(seen.empty() ? 0 : offset + seen.size()));
}

void ObservedCall::found_memory(const MemoryNote &note) {
  const trace::Memory memory{
      .size = note.size.value,
      .page_size = static_cast<std::uint32_t>(note.page_size.value),
      .kind = static_cast<std::uint8_t>(note.kind),
      .flags = static_cast<std::uint8_t>((note.shared ? trace::Memory::shared : 0) |
                                         (note.by_file ? trace::Memory::by_file : 0)),
      .reserved = 0};
  const std::size_t known = record_.stretches;
  if (known != 0 && known <= trace::most_memory) {
    trace::Memory &last = record_.memory[known - 1];
    if (last.kind == memory.kind && last.flags == memory.flags &&
        last.page_size == memory.page_size) {
      last.size += memory.size;
      return;
    }
  }
  if (known < trace::most_memory)
    record_.memory[known] = memory;
  if (known < UINT8_MAX)
    ++record_.stretches;
}

void ObservedCall::borrow_begins() {
  borrowed_ = true;
  spend_time_on(record_.borrow);
  VFIO_SHIM_PROBE_BORROW_BEGIN(record_.sequence, record_.thread);
}

void ObservedCall::borrow_ended() {
  VFIO_SHIM_PROBE_BORROW_END(record_.sequence, record_.thread);
  borrowed_ = false;
  spend_time_on(answering_ ? record_.out : own_work_);
}

void ObservedCall::kernel_entered(unsigned long command) {
  spend_time_on(record_.kernel);
  VFIO_SHIM_PROBE_BACKEND_BEGIN(record_.sequence, command);
}

void ObservedCall::kernel_left(unsigned long command, int error) {
  VFIO_SHIM_PROBE_BACKEND_END(record_.sequence, command, error);
  spend_time_on(borrowed_ ? record_.borrow : own_work_);
}

void ObservedCall::spend_time_on(std::uint64_t &duration) {
  const auto now = Observer::Clock::now();
  *spending_ += static_cast<std::uint64_t>(Nanoseconds(now - since_).count());
  since_ = now;
  spending_ = &duration;
}

} // namespace vfio_shim::observe
