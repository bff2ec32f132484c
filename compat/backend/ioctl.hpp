/// @file
/// An ioctl of our own, with its failure as an Error.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

namespace vfio_shim {

/// Runs an ioctl on a file of this process.
/// @param what The ioctl's name, for the error.
Result<void> run_ioctl(const Fd &file, unsigned long command, void *argument, const char *what);

} // namespace vfio_shim
