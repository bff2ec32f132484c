// SPDX-License-Identifier: MIT
/// @file
/// Running system calls in a thread of another process.
#pragma once

#include "client/call_notes.hpp"
#include "client/client_area.hpp"
#include "client/traced_thread.hpp"
#include "client/vdso_corner.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace vfio_shim::client {

/// A client's thread that is stopped on its way out of an ioctl, and that runs system calls for us.
///
/// Usage: borrow() -> system_call()... -> give_back(). Only that one thread ever stops. Its
/// registers and signal mask are as they were when it goes on, except for the ioctl's result;
/// signals that arrive meanwhile are delivered afterwards.
///
/// We may die at any instant. Then the kernel lets the thread go, and it mends itself: it runs
/// arch::ClientCode, and makes its ioctl once more. What borrow()'s caller has installed in the
/// client before stays there.
class BorrowedThread final : public TracedThread {
public:
  /// Seizes @p thread, which waits in an ioctl that we have not answered yet, then calls
  /// @p let_go, and waits until the thread has stopped.
  ///
  /// @param areas Where an area in the client comes from, and is given back to. Outlives this.
  /// @param notes Of the call that the thread makes; outlive this.
  /// @param let_go Answers the ioctl, once the thread cannot become another one any more. Returns
  ///        whether it could; if not, the thread is left alone. Until the thread has stopped, that
  ///        answer stands if we die.
  /// @return EBUSY: somebody else traces it, or it has seccomp filters that cannot be suspended.
  ///         ESRCH: it is dying, or @p let_go said no. After ESRCH @p let_go may or may not have
  ///         been called; after EBUSY it has not. After EOPNOTSUPP (a 32-bit call) the ioctl has
  ///         been answered with that.
  static Result<std::unique_ptr<BorrowedThread>>
  borrow(Tid thread, ClientAreas &areas, CallNotes &notes, const std::function<bool()> &let_go);

  /// Seizes @p thread, which may wait in any system call, wherever it is. To be given back by
  /// give_back_as_it_was(): a wait that cannot be resumed ends with EINTR, as it does after SIGSTOP
  /// and SIGCONT.
  /// @return EAGAIN: it is not in a system call. As borrow() otherwise.
  static Result<std::unique_ptr<BorrowedThread>> halt(Tid thread, ClientAreas &areas,
                                                      CallNotes &notes);

  /// Gives the thread back with EINTR if nobody has given it back: a bug's last defence.
  ~BorrowedThread();

  /// The descriptor that it has made its ioctl on.
  ClientFd called_on() const { return arch::file_of_ioctl(registers()); }

  /// Our area in the client.
  /// @return Why there is none: ENOMEM, if the client may not map any more. The thread can make
  ///         system calls that point to nothing all the same.
  Result<ClientArea> area() const;
  static constexpr std::size_t scratch_size = ClientArea::scratch_size;

  /// Places in the client where numbers of descriptors will be, or arch::Mending::no_descriptor.
  using Places = std::array<ClientAddr, arch::Mending::the_duplicate>;

  /// If we die, the descriptors at @p places are closed, and what duplicate() has made: until the
  /// thread is given back.
  /// @return EFAULT: the client has taken our memory away.
  Result<void> close_if_we_die(const Places &places);

  /// From now on nothing is closed if we die. @return As close_if_we_die().
  Result<void> leave_descriptors();

  /// Closes the descriptor at one of these places, and notes that there.
  void close(const Places &places, std::size_t which, ClientFd number);

  /// Has the thread make a copy of its descriptor @p file, close-on-exec.
  /// @param least It gets the lowest free number from this one on.
  /// @return Its number.
  Result<ClientFd> duplicate(ClientFd file, ClientFd least);

  /// Restores the thread and lets it return from its ioctl.
  /// @param ioctl_result What the ioctl returns: a value, or a negative errno.
  void give_back(long ioctl_result);
  /// Lets a thread that was halted go on.
  void give_back_as_it_was();

private:
  friend class ErrandThread; // It is made by this thread.

  BorrowedThread(Tid thread, ClientAreas &areas, CallNotes &notes)
      : TracedThread(thread), areas_(areas), notes_(notes) {}

  Result<void> settle();
  Result<void> check_instruction();
  Result<void> make_area();
  Result<ClientArea> map_area();
  Result<void> fill(ClientArea &area);
  Result<void> be_mendable();
  Result<void> stand_in(ClientAddr code);
  Result<void> block_signals();
  Result<void> write_mending() { return area_->write(id(), mending_); }
  void restore(const arch::Registers &going_on);
  void leave_area();
  tl::unexpected<Error> leave_alone();

  ClientAreas &areas_;
  CallNotes &notes_;
  Pid process_{};
  std::optional<VdsoCorner> corner_; ///< While there is no area.
  std::optional<ClientArea> area_;
  Error why_no_area_{};
  arch::Mending mending_{};
  bool mask_changed_ = false;
  bool halted_ = false;
};

} // namespace vfio_shim::client
