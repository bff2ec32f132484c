// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "units.h"

namespace legacy {

/// A PCI function bound to vfio-pci, as sysfs shows it.
struct PciDevice {
  /// "0000:00:02.0"
  std::string address;
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  GroupId group{};
  /// Addresses of every device in the same IOMMU group, this one among them.
  std::vector<std::string> group_members;

  bool shares_group() const { return group_members.size() > 1; }
  bool is_edu() const { return vendor == 0x1234 && device == 0x11e8; }
  bool is_ivshmem() const { return vendor == 0x1af4 && device == 0x1110; }
};

/// What the test machine offers. Read from sysfs at each call, sorted by address.
namespace topology {

/// Every PCI device bound to vfio-pci.
std::vector<PciDevice> vfio_devices();

/// The edu devices that are alone in their groups. Throws std::runtime_error, saying what to bind,
/// when there are fewer than `at_least`.
std::vector<PciDevice> lone_edus(std::size_t at_least);

/// The two edu devices that share one group; throws as above when there are none.
std::vector<PciDevice> edus_sharing_a_group();

/// The ivshmem device, whose BAR 2 is memory. Throws as above when there is none.
PciDevice ivshmem();

/// The device bound to vfio-pci at `address`. Throws std::runtime_error when there is none.
PciDevice at(const std::string &address);

} // namespace topology

} // namespace legacy
