// SPDX-License-Identifier: MIT
/// @file
/// A directory tree that looks like the kernel's, as far as the topology reads it.
#pragma once

#include "vfio_shim/topology.hpp"

#include <filesystem>
#include <string>

namespace vfio_shim::test {

/// Owns the tree; gone with the object.
class FakeSysfs {
public:
  FakeSysfs();
  FakeSysfs(const FakeSysfs &) = delete;
  FakeSysfs &operator=(const FakeSysfs &) = delete;
  ~FakeSysfs();

  topology::Roots roots() const { return {.sys = root_ / "sys", .dev = root_ / "dev"}; }
  const std::filesystem::path &root() const { return root_; }

  /// A device of @p group, bound to @p driver; "" for none.
  void add_device(const std::string &name, GroupId group, const std::string &driver);
  /// The same without a group: a device that no IOMMU translates for.
  void add_device_without_group(const std::string &name, const std::string &driver);
  /// Gives the device a VFIO cdev, "vfio<number>"; its node is a link to /dev/null or the like, so
  /// that it is a character device that can be opened. Five cdevs in a row have different ones.
  void add_cdev(const std::string &device, int number);
  void remove_cdev(const std::string &device, int number);

private:
  std::filesystem::path device_directory(const std::string &name) const;

  std::filesystem::path root_;
};

} // namespace vfio_shim::test
