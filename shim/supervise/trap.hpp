// SPDX-License-Identifier: MIT
/// @file
/// Making a program's calls come to its supervisor.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

namespace vfio_shim::supervise {

/// Traps, for this process and all that it will start, the ioctls that name a group's file to other
/// parts of the kernel: KVM_SET_DEVICE_ATTR, and for descriptors from client::least_supervised on
/// VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET.
///
/// All other calls pass a seccomp filter, whose answer for all but ioctl() the kernel knows in
/// advance. The two reset ioctls share their numbers with VFIO_IOMMU_GET_INFO and
/// VFIO_IOMMU_MAP_DMA, which is why only high descriptors are looked at. Needs CAP_SYS_ADMIN, or
/// no_new_privs, which it does not set. If nobody listens any more, the trapped calls fail with
/// ENOSYS.
///
/// @return The listener. EBUSY: a filter with a listener is there already.
Result<Fd> trap_ioctls();

/// Whether the thread of a trapped client can be borrowed: only if its filter can be suspended.
bool can_suspend_traps();

/// One ioctl that waits for an answer.
struct TrappedCall {
  std::uint64_t id = 0;
  Tid thread;
  ClientFd file;
  unsigned int command = 0;
  std::uint64_t argument = 0;
  bool is_ioctl = true; ///< No: somebody else's filter has trapped another system call.
};

/// The end of a trap at which its calls arrive. Thread-safe.
class Listener {
public:
  explicit Listener(Fd file) : file_(std::move(file)) {}

  enum class News : std::uint8_t { call, none, end };

  /// @return end: there is no process left that could call.
  News wait(std::chrono::milliseconds patience) const;

  /// Whether its calls do not wait until they are answered, once they were taken: the filter lacks
  /// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV. To interrupt such a call's thread loses the call,
  /// which comes again: no such thread can be borrowed.
  bool loses_calls() const { return *losses_ >= enough_losses; }
  /// A call was lost, or was not. One may be lost because its thread was killed, whose id another
  /// one has by now; several in a row may not. @return Whether it has just turned out so.
  bool note_lost_call() const { return ++*losses_ == enough_losses; }
  void note_kept_call() const { *losses_ = 0; }

  /// Takes a call. Nothing if its thread was killed meanwhile.
  std::optional<TrappedCall> take() const;

  /// Whether the call's thread still waits: so far, its id was its own. Says nothing of what comes
  /// next (see Caller).
  bool waits(const TrappedCall &call) const;

  /// Ends the call: with a value, or with a negative errno.
  /// @return Whether it still waited.
  bool answer(const TrappedCall &call, long result) const;

  /// Gives @p file to the process whose call still waits, as the lowest free number, close-on-exec.
  /// @return Its number there. ENOENT: the call does not wait any more. EMFILE: no number is free.
  Result<ClientFd> install(const TrappedCall &call, const Fd &file) const;

  /// Puts @p file in the place of the descriptor that the call is on. @return As install().
  Result<void> replace(const TrappedCall &call, const Fd &file, bool close_on_exec) const;

  /// Has the kernel carry the call out as if nothing had been.
  ///
  /// The client can have changed what was looked at since: it then gets what the kernel answers
  /// anyway, because nothing is protected here, only helped.
  void let_through(const TrappedCall &call) const;

private:
  static constexpr int enough_losses = 5;

  Fd file_;
  std::shared_ptr<std::atomic<int>> losses_ = std::make_shared<std::atomic<int>>(0);
};

} // namespace vfio_shim::supervise
