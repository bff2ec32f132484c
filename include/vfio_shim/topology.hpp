// SPDX-License-Identifier: MIT
/// @file
/// IOMMU groups, their devices and the devices' VFIO cdevs, from sysfs.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace vfio_shim::topology {

/// Where the kernel shows itself. Another root serves tests.
struct Roots {
  std::filesystem::path sys = "/sys";
  std::filesystem::path dev = "/dev";
};

/// Where the kernel's own legacy nodes are while a daemon's nodes have taken their place.
std::filesystem::path nodes_put_aside(const Roots &roots = {});

/// Where the kernel's own legacy node of that name is ("vfio", "12"): in nodes_put_aside(), or else
/// in /dev/vfio.
std::filesystem::path kernel_node(const std::string &name, const Roots &roots = {});

/// A device that is bound to a vfio driver.
struct Device {
  std::string name;           ///< As legacy clients name it: "0000:00:03.0".
  std::filesystem::path cdev; ///< "/dev/vfio/devices/vfio2".
};

/// An IOMMU group with at least one such device.
struct Group {
  GroupId id;
  std::vector<Device> devices; ///< Ordered by name.
};

/// Every group that has a device with a VFIO cdev, ordered by id.
/// @return The errno of reading sysfs, EMFILE for example. A kernel without VFIO has no groups.
Result<std::vector<Group>> groups(const Roots &roots = {});

/// The same, where nobody minds whether there is nothing or nothing can be read.
std::vector<Group> scan(const Roots &roots = {});

/// One group. @return ENODEV if none of its devices has a VFIO cdev. As groups().
Result<Group> find(GroupId id, const Roots &roots = {});

/// Whether no device of the group is in the hands of a host driver that does DMA of its own.
///
/// The kernel's rule (drivers/iommu: dma_owner) is that a driver which leaves DMA to somebody else
/// says so (driver_managed_dma); sysfs does not show that flag, so the known ones are listed.
/// @return The errno of reading sysfs.
Result<bool> viable(GroupId id, const Roots &roots = {});

} // namespace vfio_shim::topology
