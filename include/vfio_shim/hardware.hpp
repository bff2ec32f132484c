// SPDX-License-Identifier: MIT
/// @file
/// What a device's IOMMU can do, asked of the kernel.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace vfio_shim::hardware {

/// What a device is promised. For several devices: what all of them are.
struct Capabilities {
  AddressSpace space;          ///< Usable IOVAs, page sizes, coherency.
  bool dirty_tracking = false; ///< The IOMMU notes which pages were written.
  bool nesting = false;        ///< A guest can have page tables of its own (nested translation).
  unsigned int pasid_bits = 0; ///< Width of process address space ids; 0: none.
  bool ats = false; ///< The device may keep translations itself; not ruled out, at least.
};

/// "intel-vtd", "arm-smmuv3", "tegra241-cmdqv", "amd", "none", or "type 7" for one not known here.
std::string iommu_type_name(std::uint32_t type);

/// What the kernel says of one device.
struct Description {
  std::uint32_t iommu_type = 0;
  Capabilities capabilities;
};

/// Asks iommufd, by binding the device for a moment: one that is in use is left alone.
/// @return EBUSY: somebody has the device, or one of its group. The errno of what failed.
Result<Description> describe(const topology::Device &device, GroupId group,
                             const topology::Roots &roots = {});

/// Addresses that devices of a group cannot use.
struct Reserved {
  IovaRange range;
  std::string type; ///< As the kernel says: "msi", "direct", "direct-relaxable", "reserved".
};

/// Those of a group, in order; from sysfs.
std::vector<Reserved> reserved_ranges(GroupId group, const topology::Roots &roots = {});

/// Takes from @p space what @p reserved does not let devices use. What the kernel calls relaxable
/// can be used.
void leave_out(AddressSpace &space, const std::vector<Reserved> &reserved);

/// What both are promised.
Capabilities least_common(const Capabilities &one, const Capabilities &other);

} // namespace vfio_shim::hardware
