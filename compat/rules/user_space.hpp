// SPDX-License-Identifier: MIT
/// @file
/// Which addresses can be a process's at all.
#pragma once

#include "vfio_shim/units.hpp"

namespace vfio_shim::rules {

/// Whether [@p start, @p start + @p size) lies where processes have memory, as the kernel's
/// access_ok() judges on this machine. Says nothing about whether there is any.
bool within_user_space(ClientAddr start, Bytes size);

} // namespace vfio_shim::rules
