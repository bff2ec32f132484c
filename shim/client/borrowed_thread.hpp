/// @file
/// Running system calls in a thread of another process.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <sys/user.h>

namespace vfio_shim::client {

/// A client's thread that is stopped on its way out of an ioctl, and that runs system calls for us.
///
/// Usage: borrow() -> system_call()... -> give_back(). Only that one thread ever stops. Its
/// registers, signal mask and scratch memory are as they were when it goes on, except for the
/// ioctl's result; signals that arrive meanwhile are delivered afterwards. Borrowing never kills:
/// no exit-kill option is set, and the kernel lets the thread go if we die.
///
/// DANGER: ptrace belongs to the *thread* that seized. An object of this class must be used and
/// destroyed in the thread that made it. If the client dies while it is borrowed, that thread stays
/// its tracer until it has waited for it, which may not be possible yet: see tracer_must_retire().
class BorrowedThread {
public:
  /// Seizes @p thread, which waits in an ioctl that we have not answered yet, then calls
  /// @p let_go, which must answer it, and waits until the thread has stopped.
  ///
  /// @return EBUSY: somebody else traces it, or its seccomp filter cannot be suspended. ESRCH: it
  /// is dying. After ESRCH @p let_go may or may
  ///         not have been called; after any other error it has not.
  static Result<std::unique_ptr<BorrowedThread>> borrow(Tid thread,
                                                        const std::function<void()> &let_go);

  BorrowedThread(const BorrowedThread &) = delete;
  BorrowedThread &operator=(const BorrowedThread &) = delete;
  /// Gives the thread back with EINTR if nobody has given it back: a bug's last defence.
  ~BorrowedThread();

  Tid id() const { return thread_; }

  /// Runs a system call in the thread. Its pointers are addresses in the client.
  /// @return What the call returned, its errno, or ESRCH if the client died.
  Result<long> system_call(long number, std::array<std::uint64_t, 6> arguments);

  /// Memory of the client that nobody uses while the thread is borrowed, at least scratch_size
  /// bytes: below its stack pointer (and red zone), or a page of its own where that is not mapped.
  /// @return Its address, aligned to 16.
  Result<ClientAddr> scratch();
  static constexpr std::size_t scratch_size = 256;

  /// Restores the thread and lets it return from its ioctl.
  /// @param ioctl_result What the ioctl returns: a value, or a negative errno.
  void give_back(long ioctl_result);

  /// Whether this thread still traces a dead client and should end itself: the kernel then hands
  /// the dead on to its parent.
  static bool tracer_must_retire();

private:
  explicit BorrowedThread(Tid thread) : thread_(thread) {}

  pid_t await_change();
  Result<void> wait_for_stop();
  Result<user_regs_struct> step_over_system_call();
  Result<user_regs_struct> step_by_trap();
  Result<user_regs_struct> step_by_system_call_stops();
  Result<void> resume(int request);
  Result<user_regs_struct> current_registers();
  Result<void> save_state();
  void restore_scratch();
  tl::unexpected<Error> lost(const char *where);

  Tid thread_;
  bool alive_ = true;
  bool can_be_trapped_ = true; ///< SIGTRAP may be forced on it.
  int stop_status_ = 0;
  user_regs_struct registers_{};  ///< As the thread left its ioctl.
  std::uint64_t signal_mask_ = 0; ///< The thread's own.
  bool mask_changed_ = false;
  ClientAddr scratch_{};
  std::vector<std::byte> scratch_contents_; ///< What was on the stack below the red zone.
  bool scratch_is_mapped_ = false;          ///< We mapped a page and must unmap it.
  bool trap_pending_ = false;               ///< The client was sent a SIGTRAP of its own meanwhile.
  std::array<std::byte, 128> trap_info_{};
};

} // namespace vfio_shim::client
