// SPDX-License-Identifier: MIT
/// @file
/// Which IOMMU groups a daemon serves.
#pragma once

#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <string>
#include <vector>

namespace vfio_shim::cuse {

/// A choice of groups by devices in them, whatever drivers these have. Without devices: all groups.
struct GroupChoice {
  std::vector<std::string> devices; ///< "0000:03:00.0".
  bool left_out = false;            ///< Their groups are those that are not served.

  bool is_all() const { return devices.empty(); }
  bool has(GroupId group, const topology::Roots &roots = {}) const;
  /// Its devices that are in no group.
  std::vector<std::string> unknown(const topology::Roots &roots = {}) const;
};

/// The name that the kernel gives a PCI device which people call "3:00.0", "03:00.0" or so. Other
/// names stay as they are.
std::string full_device_name(const std::string &name);

} // namespace vfio_shim::cuse
