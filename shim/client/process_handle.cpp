// SPDX-License-Identifier: MIT
#include "client/process_handle.hpp"

#include "client/thread_state.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

/// PIDFD_THREAD (Linux 6.9): a pidfd of a thread that need not be its process's first.
constexpr unsigned int pidfd_thread = O_EXCL;

Result<Fd> open_pidfd(int number, unsigned int flags) {
  Fd handle{static_cast<int>(::syscall(SYS_pidfd_open, number, flags))};
  if (!handle)
    return fail_for_want_of_descriptors("pidfd_open");
  return handle;
}

} // namespace

Result<Fd> open_thread(Tid thread) {
  auto handle = open_pidfd(thread.value, pidfd_thread);
  if (handle || handle.error().code != EINVAL)
    return handle;
  const auto process = thread_group(thread);
  if (!process)
    return pass_on(process);
  return open_process(*process);
}

Result<Fd> open_process(Pid process) {
  return open_pidfd(process.value, 0);
}

tl::unexpected<Error> fail_for_want_of_descriptors(std::string where, int code) {
  return fail(code == EMFILE ? ENFILE : code, std::move(where));
}

} // namespace vfio_shim::client
