/// @file
/// What /proc/<tid>/status tells about a client's thread.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

namespace vfio_shim::client {

/// The parts that matter for borrowing the thread.
struct ThreadState {
  Pid process;                  ///< The thread group.
  bool sandboxed = false;       ///< A seccomp mode is set.
  bool ignores_sigtrap = false; ///< The process has set SIGTRAP to SIG_IGN.
};

/// @return ESRCH: no such thread.
Result<ThreadState> read_thread_state(Tid thread);

/// Whether the thread is on its way out of existence, or gone.
bool is_exiting(Tid thread);

} // namespace vfio_shim::client
