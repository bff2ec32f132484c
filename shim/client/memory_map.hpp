// SPDX-License-Identifier: MIT
/// @file
/// What kind of memory lies where in a client.
#pragma once

#include "backend/device_memory.hpp"
#include "client/memory_files.hpp"

#include "vfio_shim/client.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <functional>
#include <vector>

namespace vfio_shim::client {

/// What kinds of memory may be given with their file.
struct MappableByFile {
  /// Whether memfd, shmem and hugetlbfs files may be. Asked for the first such file only.
  std::function<bool()> pinned_memory;
  DeviceMemory *device_memory = nullptr; ///< The devices whose BARs may be; may be none.
};

/// Divides [@p start, @p start + @p size) of the thread's address space into stretches that a
/// memfd, shmem or hugetlbfs file or a device holds and that are mapped shared with the permissions
/// that @p access needs, and all the rest.
///
/// @param files Of the thread's address space.
///
/// Safe against a client that changes its mappings meanwhile: a file is given only if, *after* it
/// was opened, the client still had just this file mapped there with those permissions. Needs
/// PROCMAP_QUERY (Linux 6.11); without it everything is "the rest".
///
/// @return EFAULT: memory that the client itself may not read is to be read by a device (fast
///         pinning would not notice), or device memory that this kernel cannot export.
Result<std::vector<MemoryPart>> divide_by_backing(Tid thread, MemoryFiles &files, ClientAddr start,
                                                  Bytes size, Access access,
                                                  const MappableByFile &by_file);

} // namespace vfio_shim::client
