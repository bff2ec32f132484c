// SPDX-License-Identifier: MIT
#include "fake_sysfs.hpp"

#include <array>
#include <system_error>

#include <stdlib.h>

namespace vfio_shim::test {

namespace fs = std::filesystem;

namespace {

std::string cdev_name(int number) {
  return "vfio" + std::to_string(number);
}

/// A character device that anybody can open, and its number.
struct Node {
  const char *path;
  const char *number;
};

/// Different ones for a few cdevs that follow each other.
const Node &node_of(int cdev) {
  static constexpr std::array<Node, 5> nodes = {{{"/dev/null", "1:3"},
                                                 {"/dev/zero", "1:5"},
                                                 {"/dev/full", "1:7"},
                                                 {"/dev/random", "1:8"},
                                                 {"/dev/urandom", "1:9"}}};
  return nodes.at(static_cast<std::size_t>(cdev) % nodes.size());
}

/// In memory if possible: a test makes some fifty files.
fs::path temporary_directory() {
  std::error_code error;
  return fs::is_directory("/dev/shm", error) ? "/dev/shm" : fs::temp_directory_path();
}

} // namespace

FakeSysfs::FakeSysfs() {
  std::string pattern = temporary_directory() / "vfio-shim-sysfs.XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr)
    throw std::system_error(errno, std::generic_category(), pattern);
  root_ = pattern;
}

FakeSysfs::~FakeSysfs() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

void FakeSysfs::add_device(const std::string &name, GroupId group, const std::string &driver) {
  add_device_without_group(name, driver);
  const fs::path number = std::to_string(group.value);
  const fs::path directory = root_ / "sys/kernel/iommu_groups" / number;
  fs::create_directories(directory / "devices");
  fs::create_symlink(fs::path("../../../kernel/iommu_groups") / number,
                     device_directory(name) / "iommu_group");
  fs::create_directory_symlink(fs::path("../../../../devices/pci0") / name,
                               directory / "devices" / name);
}

void FakeSysfs::add_device_without_group(const std::string &name, const std::string &driver) {
  fs::create_directories(device_directory(name));
  if (!driver.empty())
    fs::create_symlink(fs::path("../../../bus/pci/drivers") / driver,
                       device_directory(name) / "driver");
}

void FakeSysfs::add_cdev(const std::string &device, int number) {
  const fs::path directory = device_directory(device) / "vfio-dev" / cdev_name(number);
  fs::create_directories(directory);
  fs::create_symlink(fs::path("../../../") / device, directory / "device");
  const fs::path entries = root_ / "sys/class/vfio-dev";
  fs::create_directories(entries);
  fs::create_directory_symlink(fs::path("../../devices/pci0") / device / "vfio-dev" /
                                   cdev_name(number),
                               entries / cdev_name(number));
  fs::create_directory_symlink("../../../../../class/vfio-dev", directory / "subsystem");
  const fs::path nodes = root_ / "dev/vfio/devices";
  fs::create_directories(nodes);
  fs::create_symlink(node_of(number).path, nodes / cdev_name(number));
  const fs::path numbers = root_ / "sys/dev/char";
  fs::create_directories(numbers);
  fs::remove(numbers / node_of(number).number);
  fs::create_directory_symlink(fs::path("../../devices/pci0") / device / "vfio-dev" /
                                   cdev_name(number),
                               numbers / node_of(number).number);
}

void FakeSysfs::remove_cdev(const std::string &device, int number) {
  fs::remove(root_ / "sys/class/vfio-dev" / cdev_name(number));
  fs::remove_all(device_directory(device) / "vfio-dev");
  fs::remove(root_ / "dev/vfio/devices" / cdev_name(number));
  fs::remove(root_ / "sys/dev/char" / node_of(number).number);
}

fs::path FakeSysfs::device_directory(const std::string &name) const {
  return root_ / "sys/devices/pci0" / name;
}

} // namespace vfio_shim::test
