/// @file
/// What kind of memory lies where in a client.
#pragma once

#include "vfio_shim/client.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <vector>

namespace vfio_shim::client {

/// Divides [@p start, @p start + @p size) of the thread's address space into stretches that a
/// memfd, shmem or hugetlbfs file holds and that are mapped shared with the permissions that
/// @p access needs, and all the rest.
///
/// Safe against a client that changes its mappings meanwhile: a file is given only if, *after* it
/// was opened, the client still had just this file mapped there with those permissions. Needs
/// PROCMAP_QUERY (Linux 6.11); without it everything is "the rest".
///
/// @param by_file Whether files may be given at all.
/// @return EFAULT: memory that the client itself may not read is to be read by a device. Fast
///         pinning would not notice.
Result<std::vector<MemoryPart>> divide_by_backing(Tid thread, ClientAddr start, Bytes size,
                                                  Access access, bool by_file);

} // namespace vfio_shim::client
