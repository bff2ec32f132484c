// SPDX-License-Identifier: MIT
#include "client/errand_thread.hpp"

#include "client/descriptor_transfer.hpp"
#include "client/process_handle.hpp"

#include <array>
#include <cerrno>

#include <linux/close_range.h>
#include <sched.h>
#include <sys/syscall.h>

namespace vfio_shim::client {

namespace {

/// What makes a thread. With a table of descriptors of its own from the start, it would hold every
/// file of the client for a moment: settle() does better. Its working directory is its own, because
/// the kernel shares none (EAGAIN) while another thread is about to exec.
constexpr std::uint64_t thread_flags =
    CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

} // namespace

Result<std::unique_ptr<ErrandThread>> ErrandThread::send(BorrowedThread &from) {
  const auto area = from.area();
  if (!area)
    return pass_on(area);
  const ClientAddr code = area->code();
  from.call_from(code + arch::ClientCode::clone_end);
  const auto cloned = from.system_call(SYS_clone, {thread_flags, 0, 0, 0, 0, 0});
  from.call_from(code + arch::ClientCode::call_end);
  const auto thread = from.made_thread();
  if (!cloned || !thread) {
    // Killed while it made the thread. What it has made, if anything, is traced by us already.
    if (cloned || cloned.error().code == ESRCH)
      may_trace_another();
    return cloned || cloned.error().code == EAGAIN
               ? fail(ENOMEM, "the client may have no more threads")
               : pass_on(cloned);
  }
  std::unique_ptr<ErrandThread> sent(new ErrandThread(from, *thread, *area));
  if (from.guise())
    sent->enter_as(*from.guise());
  VFIO_SHIM_TRY(sent->settle());
  return sent;
}

/// Parts it from the client's descriptors. The kernel makes it an empty table without ever copying
/// the client's: no file is opened and closed once more by that.
Result<void> ErrandThread::settle() {
  VFIO_SHIM_TRY(wait_for_stop());
  VFIO_SHIM_TRY(read_registers());
  call_from(area_.code() + arch::ClientCode::errand_end);
  const auto parted = system_call(SYS_close_range, {0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0});
  return parted ? Result<void>{} : pass_on(parted);
}

ErrandThread::~ErrandThread() {
  end();
}

/// It is let go when it has nothing left to run: then its code can go.
void ErrandThread::end() {
  constexpr std::array<std::uint64_t, 6> status{};
  (void)system_call(SYS_exit, status);
  if (!alive())
    return;
  call_from(ClientAddr{from_.registers().rip}); // The client has taken our code away.
  (void)system_call(SYS_exit, status);
}

Result<ClientFd> ErrandThread::take(const Fd &file) {
  const auto handle = open_thread(id());
  if (!handle)
    return pass_on(handle);
  return receive_descriptor(*this, scratch(), *handle, file);
}

} // namespace vfio_shim::client
