// SPDX-License-Identifier: MIT
/// @file
/// What a record says, decoded.
#pragma once

#include "observe/trace_access.hpp"

#include <string>

namespace vfio_shim::cli {

namespace trace = observe::trace;

/// "open", "close", "VFIO_IOMMU_MAP_DMA", "ioctl 0x1234".
std::string call_name(const trace::Record &record);

/// The client's command name, byte for byte.
std::string client_name(const trace::Record &record);

/// "container 3", "group 12": the file that was called. The container's number is that of its
/// open(), the group's is the kernel's.
std::string file_text(const trace::Record &record);

/// What was asked: "iova 0x0, 256 MiB at 0x7f0000000000, rw"; "" if there is nothing to say. May
/// hold any byte that a client put there.
std::string argument_text(const trace::Record &record);

/// What was answered: "0", "8192 bytes", "EEXIST".
std::string result_text(const trace::Record &record);

/// The memory that it was about: "256 MiB anonymous, borrowed"; "" if about none.
std::string memory_text(const trace::Record &record);

/// "anonymous", "shmem", ...: a MemoryKind as its own name.
std::string memory_kind_name(std::uint8_t kind);

} // namespace vfio_shim::cli
