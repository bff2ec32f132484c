// SPDX-License-Identifier: MIT
/// @file
/// Becoming a thread's tracer.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>

namespace vfio_shim::client {

/// PTRACE_SEIZE with the options @p options, given up when the thread is being killed.
///
/// The kernel lets nobody seize a thread whose process is about to exec, and the exec waits for the
/// process's other threads to die. One of them may be this thread, which cannot die before its call
/// to us is answered: who waited for the seizure would wait for ever.
///
/// @return EBUSY: somebody else traces it. ESRCH: it is being killed, or gone.
Result<void> seize(Tid thread, std::uint64_t options);

/// Whether we may suspend seccomp filters of threads that we have seized: the kernel has
/// CONFIG_CHECKPOINT_RESTORE, and this process has no filter itself.
bool can_suspend_filters();

} // namespace vfio_shim::client
