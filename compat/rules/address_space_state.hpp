// SPDX-License-Identifier: MIT
/// @file
/// What VFIO_SET_IOMMU adds to a container.
#pragma once

#include "rules/mapping_table.hpp"

#include "vfio_shim/backend.hpp"

namespace vfio_shim::rules {

/// The state that the kernel's type1 driver keeps per container.
struct AddressSpaceState {
  Version version{};
  AddressSpace space;
  MappingTable mappings;
  /// The client has the iommufd, and maps there by itself. Nobody knows what: `mappings` is empty.
  bool express = false;
  bool tracking_dirty = false; ///< Between VFIO_IOMMU_DIRTY_PAGES' START and STOP.
};

} // namespace vfio_shim::rules
