// SPDX-License-Identifier: MIT
/// @file
/// A thread of our own in a client.
#pragma once

#include "client/borrowed_thread.hpp"
#include "client/traced_thread.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <memory>

namespace vfio_shim::client {

/// A thread that the client's borrowed thread makes for us, and that lives while that one is
/// borrowed. It shares the client's memory, and nothing else that matters: its descriptors are its
/// own, so no other thread of the client can use, copy or inherit what we give it. All its signals
/// are blocked. The kernel takes it for a thread of the client: it pins the client's memory, and
/// charges the client for it.
///
/// It runs no code of the client's, and ends itself if we die (arch::ClientCode).
class ErrandThread final : public TracedThread {
public:
  /// @param from Outlives the new thread, and makes no system call while there is one.
  /// @return ENOMEM: the client may have no more threads, or no more memory. As
  ///         TracedThread::system_call() otherwise.
  static Result<std::unique_ptr<ErrandThread>> send(BorrowedThread &from);
  /// Ends the thread.
  ~ErrandThread();

  /// Gives it the file.
  /// @return Its number there. As receive_descriptor().
  Result<ClientFd> take(const Fd &file);

  /// Memory of the client for what its system calls point to.
  ClientAddr scratch() const { return area_.errand_scratch(); }

private:
  ErrandThread(BorrowedThread &from, Tid thread, const ClientArea &area)
      : TracedThread(thread), from_(from), area_(area) {}

  Result<void> settle();
  void end();

  BorrowedThread &from_;
  ClientArea area_;
};

} // namespace vfio_shim::client
