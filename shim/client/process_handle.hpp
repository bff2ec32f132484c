// SPDX-License-Identifier: MIT
/// @file
/// Descriptors that stand for a client's thread, or for its process.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cerrno>
#include <string>

namespace vfio_shim::client {

/// A pidfd of the thread: through it its descriptors can be copied, whether or not its process's
/// first thread is still there. It tells of the thread's end, not of the process's.
/// @return ESRCH: it is gone. ENFILE: we have too many descriptors.
Result<Fd> open_thread(Tid thread);

/// A pidfd of the process: it becomes readable when the whole process has ended.
/// @return ESRCH: it is gone. ENFILE: we have too many descriptors.
Result<Fd> open_process(Pid process);

/// A failure. EMFILE means our own descriptors here, but to a client it would mean its own: it is
/// told ENFILE.
tl::unexpected<Error> fail_for_want_of_descriptors(std::string where, int code = errno);

} // namespace vfio_shim::client
