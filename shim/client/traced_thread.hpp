// SPDX-License-Identifier: MIT
/// @file
/// A thread of another process that makes system calls for us.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "arch/x86_64.hpp"

namespace vfio_shim::client {

/// A stopped thread that we trace, and that runs nothing but what we ask for.
///
/// It is stopped at the entry of each system call, and what it is about to do is compared with what
/// it was told to. A sibling thread may have changed the code there; then the call is skipped. The
/// client's seccomp filters are suspended only from there to the call's end, so what they deny
/// stays denied.
///
/// DANGER: ptrace belongs to the *thread* that seized. An object of this class must be used and
/// destroyed in the thread that made it. If the client dies meanwhile, that thread stays its tracer
/// until it has waited for it, which may not be possible yet: see tracer_must_retire().
class TracedThread {
public:
  TracedThread(const TracedThread &) = delete;
  TracedThread &operator=(const TracedThread &) = delete;

  Tid id() const { return thread_; }

  /// Runs a system call in the thread. Its pointers are addresses in the client.
  /// @return What the call returned, its errno, ESRCH if the client died, or EFAULT if the client
  ///         has changed the code that the call is made from.
  Result<long> system_call(long number, std::array<std::uint64_t, 6> arguments);

  /// Whether a seccomp filter of the thread's, which is stopped, leaves that ioctl to somebody who
  /// listens.
  bool is_trapped(unsigned int command) const;

  /// Whether the calling thread still traces a dead client and should end itself: the kernel then
  /// hands the dead on to its parent.
  static bool tracer_must_retire();

  /// The options that every thread is seized with.
  static const std::uint64_t options;

protected:
  explicit TracedThread(Tid thread) : thread_(thread) {}
  ~TracedThread() = default;

  bool alive() const { return alive_; }
  int stop_status() const { return stop_status_; }
  /// The thread is ours no more.
  void let_go() { alive_ = false; }
  /// Lets the thread run on by itself, which ends our hold on it. @return False, if it is dead.
  bool detach(int signal);

  /// Whether the thread, which is stopped, has seccomp filters.
  bool has_filters() const;

  /// Asks for the first stop and waits for it.
  Result<void> wait_for_stop();
  /// Reads the registers that its system calls start from. They are made from the instruction
  /// before the one that it would go on with.
  Result<void> read_registers();
  arch::Registers &registers() { return registers_; }
  const arch::Registers &registers() const { return registers_; }
  /// Writes the registers, as they are kept here.
  bool write_registers();

  /// Has system calls made from the syscall instruction that ends at @p end.
  void call_from(ClientAddr end) { call_site_ = end; }

  /// Has the thread enter each of its calls as @p call, which its filters allow, and turns that
  /// into the right one once they are suspended: if we die before, nothing is made that they kill
  /// for.
  void enter_as(const arch::SystemCall &call) { guise_ = call; }
  const std::optional<arch::SystemCall> &guise() const { return guise_; }

  /// The thread that its last system call has made, by our name for it.
  std::optional<Tid> made_thread() const { return made_thread_; }

  tl::unexpected<Error> lost(const char *where);
  /// There may be a thread that this one traces and nobody knows: tracer_must_retire().
  static void may_trace_another();

  static long trace(int request, Tid thread, std::uint64_t address, const void *data);
  static const void *as_data(std::uint64_t number) {
    return reinterpret_cast<const void *>(number);
  }

private:
  pid_t await_change();
  Result<void> resume();
  Result<void> enter(const arch::SystemCall &call);
  Result<long> leave(const arch::SystemCall &call);
  Result<void> skip_call();
  Result<void> judge_by_filters(bool yes);
  Result<bool> is_about_to_make(const arch::SystemCall &call);
  void note_made_thread();

  Tid thread_;
  bool alive_ = true;
  int stop_status_ = 0;
  arch::Registers registers_{};
  ClientAddr call_site_{};
  std::optional<arch::SystemCall> guise_; ///< See enter_as(). None: it has no filters.
  std::optional<Tid> made_thread_;
};

} // namespace vfio_shim::client
