// SPDX-License-Identifier: MIT
/// @file
/// A process that does not outlive the one that made it.
#pragma once

#include <csignal>

#include <sys/prctl.h>
#include <unistd.h>

namespace vfio_shim::daemon {

/// Has this process get @p signal when @p parent, which has made it, ends, or has ended.
inline void follow_parent(int signal, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, signal);
  if (::getppid() != parent)
    ::raise(signal);
}

} // namespace vfio_shim::daemon
