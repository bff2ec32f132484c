// SPDX-License-Identifier: MIT
#include "client/seizure.hpp"

#include "client/periodic_interrupt.hpp"
#include "client/thread_state.hpp"

#include <csetjmp>

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

constexpr int was_interrupted = -1;

/// @return 0, an errno, or was_interrupted: then nobody knows what became of it.
int try_to_seize(Tid thread, std::uint64_t options) {
  // The kernel makes this call again after a signal, so only a jump leads out of it.
  sigjmp_buf way_out;
  if (sigsetjmp(way_out, 0) != 0)
    return was_interrupted;
  PeriodicInterrupt::lead_to(&way_out);
  const bool seized = ::ptrace(PTRACE_SEIZE, thread.value, 0UL, options) == 0;
  const int error = errno;
  PeriodicInterrupt::lead_to(nullptr);
  return seized ? 0 : error;
}

/// Whether this thread is its tracer.
bool is_ours(Tid thread) {
  siginfo_t nothing{};
  return ::waitid(P_PID, static_cast<id_t>(thread.value), &nothing,
                  WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) == 0;
}

} // namespace

Result<void> seize(Tid thread, std::uint64_t options) {
  const PeriodicInterrupt look_again;
  for (;;) {
    const int error = try_to_seize(thread, options);
    if (error == 0 || (error == was_interrupted && is_ours(thread)))
      return {};
    if (error == ESRCH || is_being_killed(thread))
      return fail(ESRCH, "PTRACE_SEIZE: the client is being killed");
    if (error == EPERM)
      return fail(EBUSY, "PTRACE_SEIZE: the client is being traced (a debugger?)");
    if (error != was_interrupted)
      return fail(error, "PTRACE_SEIZE");
  }
}

bool can_suspend_filters() {
  // The file is there with CONFIG_CHECKPOINT_RESTORE only.
  static const bool can =
      ::prctl(PR_GET_SECCOMP) == 0 && ::access("/proc/sys/kernel/ns_last_pid", F_OK) == 0;
  return can;
}

} // namespace vfio_shim::client
