// SPDX-License-Identifier: MIT
/// @file
/// Who made a trapped call.
#pragma once

#include "client/borrowed_thread.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "supervise/trap.hpp"

namespace vfio_shim::supervise {

/// The thread that waits in a trapped call, and its process.
///
/// The trap tells no more than a thread's id. When that thread is killed, its id can be given to a
/// thread of any other program, or be taken over by a program with more rights (execve() of another
/// thread). So what was learnt through the id counts only if the call still waits *afterwards*:
/// then its thread was there all the time. And nothing is written unless the thread is borrowed:
/// its id stays its own until it is given back.
class Caller {
public:
  /// @param areas For borrow(); outlives the caller.
  /// @return ESRCH: it was killed.
  static Result<Caller> of(const Listener &listener, const TrappedCall &call,
                           client::ClientAreas &areas);

  /// Its process.
  Pid pid() const { return pid_; }
  /// A pidfd of its process.
  const Fd &process() const { return process_; }
  /// "qemu-system-x86[1234]", for the log.
  std::string describe() const;

  /// Copies memory of the caller to @p to. @return ESRCH: it was killed meanwhile.
  Result<void> read(ClientAddr from, std::span<std::byte> to) const;

  /// Reads an object of the caller's.
  template <typename Object>
  Result<Object> read_object(ClientAddr from) const {
    Object object{};
    VFIO_SHIM_TRY(read(from, std::as_writable_bytes(std::span(&object, 1))));
    return object;
  }

  /// A copy of its descriptor. @return EBADF: it has none of that number. ESRCH: it was killed.
  Result<Fd> copy_of(ClientFd number) const;

  /// Whether its descriptor is closed on exec.
  bool closes_on_exec(ClientFd number) const;

  /// Borrows the thread, and answers the call with an error, which stands only if we die.
  /// @param before Is called between: the thread is seized, and the call still waits.
  /// @return As BorrowedThread::borrow(). The call may have been answered.
  Result<std::unique_ptr<client::BorrowedThread>> borrow(const std::function<void()> &before = [] {
  }) const;

private:
  Caller(const Listener &listener, const TrappedCall &call, client::ClientAreas &areas, Pid pid,
         Fd thread, Fd process)
      : listener_(listener),
        call_(call),
        areas_(areas),
        pid_(pid),
        thread_(std::move(thread)),
        process_(std::move(process)) {}

  /// To be asked after something was learnt of the caller.
  Result<void> check_it_waits() const;

  const Listener &listener_;
  TrappedCall call_;
  client::ClientAreas &areas_;
  Pid pid_;
  Fd thread_; ///< A pidfd. The process's first thread may have ended, and with it its descriptors.
  Fd process_;
};

} // namespace vfio_shim::supervise
