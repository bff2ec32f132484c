/// @file
/// Running system calls in a thread of another process.
#pragma once

#include "client/traced_thread.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace vfio_shim::client {

/// A client's thread that is stopped on its way out of an ioctl, and that runs system calls for us.
///
/// Usage: borrow() -> system_call()... -> give_back(). Only that one thread ever stops. Its
/// registers and signal mask are as they were when it goes on, except for the ioctl's result;
/// signals that arrive meanwhile are delivered afterwards. Borrowing never kills: no exit-kill
/// option is set, and the kernel lets the thread go if we die.
class BorrowedThread final : public TracedThread {
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

  /// Gives the thread back with EINTR if nobody has given it back: a bug's last defence.
  ~BorrowedThread();

  /// Maps a page of its own in the client, far from what programs use, with the PROT_ flags
  /// @p protection. @return Its address. ENOMEM: the client may not map any more.
  Result<ClientAddr> map_page(int protection);
  void unmap_page(ClientAddr page);

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

private:
  friend class ErrandThread; // It is made by this thread.

  explicit BorrowedThread(Tid thread) : TracedThread(thread) {}

  Result<void> save_state();
  void drop_scratch();
  tl::unexpected<Error> leave_alone();

  std::uint64_t signal_mask_ = 0; ///< The thread's own.
  bool mask_changed_ = false;
  ClientAddr scratch_{};
  bool scratch_is_temporary_ = false; ///< We mapped it, and unmap it.
};

} // namespace vfio_shim::client
