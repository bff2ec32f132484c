// SPDX-License-Identifier: MIT
/// @file
/// What /proc tells about a client's thread, now. When descriptors or memory run out it tells
/// nothing.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

namespace vfio_shim::client {

/// The thread group of @p thread.
/// @return ESRCH: no such thread. Anything else: it cannot be told (EMFILE, ENOMEM).
Result<Pid> thread_group(Tid thread);

/// Whether the thread has a seccomp filter; no if it is gone, yes if it cannot be told.
bool is_sandboxed(Tid thread);

/// Whether the process behind the pidfd @p process has ended.
bool has_ended(const Fd &process);

/// Whether the thread is on its way out of existence, or gone. What cannot be told is alive.
bool is_exiting(Tid thread);

/// Whether the thread will do nothing more in its program: it has been sent a SIGKILL of its own,
/// or is exiting, or gone. What cannot be told is alive.
bool is_being_killed(Tid thread);

} // namespace vfio_shim::client
