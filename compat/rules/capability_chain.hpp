// SPDX-License-Identifier: MIT
/// @file
/// The capability chain that VFIO_IOMMU_GET_INFO appends to its struct.
#pragma once

#include "vfio_shim/backend.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vfio_shim::rules {

/// The whole chain in type1's order: migration, DMA available, IOVA ranges.
///
/// @param space What can be mapped.
/// @param available How many mappings may still be made.
/// @param base Offset of the chain from the start of the client's struct: links count from there.
/// @return The chain's bytes; a multiple of 8.
std::vector<std::byte> build_capability_chain(const AddressSpace &space, std::uint32_t available,
                                              std::size_t base);

} // namespace vfio_shim::rules
