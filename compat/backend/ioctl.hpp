// SPDX-License-Identifier: MIT
/// @file
/// An ioctl of our own, with its failure as an Error.
#pragma once

#include "vfio_shim/client.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <cstddef>
#include <span>

namespace vfio_shim {

/// Runs an ioctl on a file of this process.
/// @param what The ioctl's name, for the error.
Result<void> run_ioctl(const Fd &file, unsigned long command, void *argument, const char *what);

/// Runs an ioctl in the client that maps memory by its addresses there, which do not wrap.
/// @return EFAULT: there is no such memory. As Client::ioctl_in_client() otherwise.
Result<void> map_in_client(Client &client, const Fd &file, Lending lending, unsigned long command,
                           std::span<const std::byte> argument);

} // namespace vfio_shim
