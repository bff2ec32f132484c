// SPDX-License-Identifier: MIT
/// @file
/// Which process a pidfd is of.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/units.hpp"

namespace vfio_shim::keeper {

/// @return 0 or less: it has ended and been waited for, or the file is no pidfd.
Pid process_behind(const Fd &process);

} // namespace vfio_shim::keeper
