// SPDX-License-Identifier: MIT
#include "topology.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace legacy::topology {
namespace {

namespace fs = std::filesystem;

std::uint16_t hex_attribute(const fs::path &path) {
  std::ifstream in{path};
  unsigned value = 0;
  in >> std::hex >> value;
  return static_cast<std::uint16_t>(value);
}

std::vector<std::string> names_in(const fs::path &directory) {
  std::vector<std::string> names;
  for (const auto &entry : fs::directory_iterator{directory})
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

bool bound_to_vfio(const fs::path &device) {
  std::error_code none;
  return fs::read_symlink(device / "driver", none).filename() == "vfio-pci" &&
         fs::exists(device / "iommu_group");
}

PciDevice read(const fs::path &device) {
  const fs::path group = fs::read_symlink(device / "iommu_group").filename();
  return {device.filename(), hex_attribute(device / "vendor"), hex_attribute(device / "device"),
          GroupId{std::stoi(group.string())}, names_in(device / "iommu_group/devices")};
}

} // namespace

std::vector<PciDevice> vfio_devices() {
  std::vector<PciDevice> devices;
  const fs::path all{"/sys/bus/pci/devices"};
  for (const std::string &address : names_in(all))
    if (bound_to_vfio(all / address))
      devices.push_back(read(all / address));
  return devices;
}

std::vector<PciDevice> lone_edus(std::size_t at_least) {
  std::vector<PciDevice> edus = vfio_devices();
  std::erase_if(edus, [](const PciDevice &d) { return !d.is_edu() || d.shares_group(); });
  if (edus.size() < at_least)
    throw std::runtime_error{"needs " + std::to_string(at_least) +
                             " edu devices alone in their groups and bound to vfio-pci, found " +
                             std::to_string(edus.size()) +
                             ": tools/vm-bind 0000:00:02.0 0000:00:06.0"};
  return edus;
}

std::vector<PciDevice> edus_sharing_a_group() {
  std::vector<PciDevice> edus = vfio_devices();
  std::erase_if(edus, [](const PciDevice &d) { return !d.is_edu() || !d.shares_group(); });
  if (edus.size() < 2 || edus[0].group != edus[1].group)
    throw std::runtime_error{"needs two edu devices in one group bound to vfio-pci: tools/vm-bind "
                             "the two behind the PCI bridge"};
  edus.resize(2);
  return edus;
}

PciDevice ivshmem() {
  for (const PciDevice &device : vfio_devices())
    if (device.is_ivshmem())
      return device;
  throw std::runtime_error{"needs an ivshmem device bound to vfio-pci: tools/vm-bind 0000:00:05.0"};
}

PciDevice at(const std::string &address) {
  for (const PciDevice &device : vfio_devices())
    if (device.address == address)
      return device;
  throw std::runtime_error{"no device bound to vfio-pci at " + address + ": tools/vm-bind " +
                           address};
}

} // namespace legacy::topology
