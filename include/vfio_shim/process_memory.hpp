// SPDX-License-Identifier: MIT
/// @file
/// Copying to and from a process's memory: a bad address is an EFAULT, not the end of the program.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <span>

namespace vfio_shim {

/// Copies memory of the process that @p thread belongs to.
/// @return EFAULT unless every byte could be read; ESRCH if the process is gone.
Result<void> read_memory(Tid thread, ClientAddr from, std::span<std::byte> to);

/// Copies to memory of the process that @p thread belongs to.
/// @return EFAULT unless every byte could be written; ESRCH if the process is gone.
Result<void> write_memory(Tid thread, ClientAddr to, std::span<const std::byte> from);

} // namespace vfio_shim
