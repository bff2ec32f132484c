/// @file
/// What /proc tells about a client's thread.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

namespace vfio_shim::client {

/// The thread group of @p thread. @return ESRCH: no such thread.
Result<Pid> thread_group(Tid thread);

/// Whether the thread has a seccomp filter; no if it is gone.
bool is_sandboxed(Tid thread);

/// Whether the thread's process has set SIGTRAP to SIG_IGN; no if it is gone.
bool ignores_sigtrap(Tid thread);

/// Whether the process behind the pidfd @p process has ended.
bool has_ended(const Fd &process);

/// Whether the thread is on its way out of existence, or gone.
bool is_exiting(Tid thread);

} // namespace vfio_shim::client
