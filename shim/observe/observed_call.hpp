// SPDX-License-Identifier: MIT
/// @file
/// One call on its way through the daemon, as it will be recorded.
#pragma once

#include "observe/observer.hpp"
#include "observe/trace_layout.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/units.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace vfio_shim::observe {

/// Follows one call, from when it was received to its answer: where the time goes, which bytes of
/// the client it reads and writes, what memory it is about. An open() and a close() are calls too.
///
/// Usage: construct -> begins() -> answering() -> answered(). One that is never answered is not
/// recorded. Not thread-safe: a call is served by one thread.
class ObservedCall final : public CallWitness {
public:
  /// @param argument The third argument of an ioctl, as the client gave it.
  ObservedCall(Observer &observer, trace::Kind kind, std::shared_ptr<ObservedFile> file, Tid thread,
               std::uint32_t command = 0, std::uint64_t argument = 0);

  /// It is its turn: the calls before it on the same file have been served. Of an open() or
  /// close(), whose client is known, and of an ioctl, which says by @p process_of_thread whose
  /// thread it is; that is asked only if somebody wants to know.
  void begins() { begins({}); }
  void begins(const std::function<Pid()> &process_of_thread);
  /// What it answers is decided.
  void answering();
  /// The client has its answer.
  void answered(long result, int error);

  void was_read(ClientAddr from, std::span<const std::byte> bytes) override;
  void was_written(ClientAddr to, std::span<const std::byte> bytes) override;
  void found_memory(const MemoryNote &note) override;
  void recognised_file(FileNumber number) override { record_.other = trace::file_of(number); }
  void borrow_begins() override;
  void borrow_ended() override;
  void kernel_entered(unsigned long command) override;
  void kernel_left(unsigned long command, int error) override;

private:
  /// What the time is being spent on: one of the record's durations, or own_work_.
  void spend_time_on(std::uint64_t &duration);

  Observer &observer_;
  const std::shared_ptr<ObservedFile> file_;
  const Observer::Clock::time_point received_ = Observer::Clock::now();
  Observer::Clock::time_point since_ = received_;
  std::uint64_t own_work_ = 0;
  std::uint64_t *spending_;
  bool borrowed_ = false;
  bool answering_ = false;
  trace::Record record_{};
};

} // namespace vfio_shim::observe
