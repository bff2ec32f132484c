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

#include <sys/user.h>

namespace vfio_shim::client {

/// A client's thread that is stopped on its way out of an ioctl, and that runs system calls for us.
///
/// Usage: borrow() -> system_call()... -> give_back(). Only that one thread ever stops. Its
/// registers and signal mask are as they were when it goes on, except for the ioctl's result;
/// signals that arrive meanwhile are delivered afterwards. Borrowing never kills: no exit-kill
/// option is set, and the kernel lets the thread go if we die.
///
/// The thread runs nothing but what we ask for: it is stopped at the entry of each system call, and
/// what it is about to do is compared with what it was told to. A sibling thread may have changed
/// the code there; then the call is skipped. The client's seccomp filters are suspended only from
/// there to the call's end, so what they deny stays denied.
///
/// DANGER: ptrace belongs to the *thread* that seized. An object of this class must be used and
/// destroyed in the thread that made it. If the client dies while it is borrowed, that thread stays
/// its tracer until it has waited for it, which may not be possible yet: see tracer_must_retire().
class BorrowedThread {
public:
  /// Seizes @p thread, which waits in an ioctl that we have not answered yet, then calls
  /// @p let_go, and waits until the thread has stopped.
  ///
  /// @param let_go Answers the ioctl, once the thread cannot become another one any more. Returns
  ///        whether it could; if not, the thread is left alone.
  /// @return EBUSY: somebody else traces it, or it has seccomp filters that cannot be suspended.
  ///         ESRCH: it is dying, or @p let_go said no. After ESRCH @p let_go may or may not have
  ///         been called; after EBUSY it has not.
  static Result<std::unique_ptr<BorrowedThread>> borrow(Tid thread,
                                                        const std::function<bool()> &let_go);

  BorrowedThread(const BorrowedThread &) = delete;
  BorrowedThread &operator=(const BorrowedThread &) = delete;
  /// Gives the thread back with EINTR if nobody has given it back: a bug's last defence.
  ~BorrowedThread();

  Tid id() const { return thread_; }

  /// Runs a system call in the thread. Its pointers are addresses in the client.
  /// @return What the call returned, its errno, ESRCH if the client died, or EFAULT if the client
  ///         has changed the code that the call is made from.
  Result<long> system_call(long number, std::array<std::uint64_t, 6> arguments);

  /// A page of the client that nobody else uses, for what system calls point to. Maps one if none
  /// was lent, which is unmapped again when the thread is given back.
  /// @return Its address. ENOMEM: the client may not map any more.
  Result<ClientAddr> scratch();
  static constexpr std::size_t page_size = 4096;
  /// How much of the page is for them; the rest may hold a mark.
  static constexpr std::size_t scratch_size = page_size - 64;

  /// Makes @p page, which is ours already, the scratch page; with 0, there is none any more.
  void lend_scratch(ClientAddr page);

  /// Leaves the scratch page mapped when the thread is given back: the caller remembers it.
  void keep_scratch() { scratch_is_temporary_ = false; }

  /// Restores the thread and lets it return from its ioctl.
  /// @param ioctl_result What the ioctl returns: a value, or a negative errno.
  void give_back(long ioctl_result);

  /// Whether this thread still traces a dead client and should end itself: the kernel then hands
  /// the dead on to its parent.
  static bool tracer_must_retire();

private:
  /// What the thread is told to do.
  struct SystemCall {
    std::uint64_t number;
    std::array<std::uint64_t, 6> arguments;
  };
  enum class Stop : std::uint8_t { entry, exit, other };

  explicit BorrowedThread(Tid thread) : thread_(thread) {}

  pid_t await_change();
  Result<void> wait_for_stop();
  Result<void> save_state();
  Result<void> resume();
  Result<void> enter(const SystemCall &call);
  Result<long> leave(const SystemCall &call);
  Result<void> skip_call();
  Result<void> judge_by_filters(bool yes);
  Result<bool> is_about_to_make(const SystemCall &call);
  void drop_scratch();
  tl::unexpected<Error> leave_alone();
  tl::unexpected<Error> lost(const char *where);

  Tid thread_;
  bool alive_ = true;
  int stop_status_ = 0;
  user_regs_struct registers_{};  ///< As the thread left its ioctl.
  std::uint64_t signal_mask_ = 0; ///< The thread's own.
  bool mask_changed_ = false;
  ClientAddr scratch_{};
  bool scratch_is_temporary_ = false; ///< We mapped it, and unmap it.
};

} // namespace vfio_shim::client
