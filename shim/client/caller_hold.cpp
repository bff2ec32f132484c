// SPDX-License-Identifier: MIT
#include "client/caller_hold.hpp"

#include <fstream>
#include <string>

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

/// Whether a thread of ours is blocked in a system call: see proc_pid_syscall(5). What cannot be
/// told is no.
bool is_blocked_in_system_call(pid_t thread) {
  std::ifstream file(fmt::format("/proc/self/task/{}/syscall", thread));
  std::string number;
  return file >> number && number != "running" && number != "-1";
}

} // namespace

void CallerHold::serve_from_this_thread() {
  server_ = static_cast<pid_t>(::syscall(SYS_gettid));
}

Result<void> CallerHold::check() const {
  if (revoked_)
    return fail(ESRCH, "the caller is dying");
  return {};
}

bool CallerHold::revoke() {
  revoked_ = true;
  const pid_t server = server_;
  return server == 0 || is_blocked_in_system_call(server);
}

} // namespace vfio_shim::client
