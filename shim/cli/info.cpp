// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/info_report.hpp"

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::cli {

namespace {

struct InfoOptions {
  std::vector<std::string> devices;
  bool json = false;
};

DeviceInfo ask(const topology::Device &device, GroupId group) {
  DeviceInfo info{.name = device.name,
                  .group = group,
                  .reserved = hardware::reserved_ranges(group),
                  .description = {},
                  .silence = {}};
  auto description = hardware::describe(device, group);
  if (description)
    info.description = std::move(*description);
  else
    info.silence = description.error().code == EBUSY
                       ? "in use (its device or group is open): only sysfs was looked at"
                       : description.error().describe();
  return info;
}

/// A device that no vfio driver has: what sysfs says, if it has an IOMMU.
Result<DeviceInfo> look_at_unbound(const std::string &name) {
  const std::filesystem::path device = "/sys/bus/pci/devices/" + name;
  std::error_code error;
  if (name.find('/') != std::string::npos || !std::filesystem::exists(device, error))
    return fail(ENODEV, fmt::format("there is no device {}", name));
  const auto group = std::filesystem::read_symlink(device / "iommu_group", error);
  if (error)
    return fail(ENODEV, fmt::format("device {} is behind no IOMMU", name));
  const GroupId id{static_cast<std::uint32_t>(std::stoul(group.filename()))};
  const auto driver = std::filesystem::read_symlink(device / "driver", error);
  return DeviceInfo{.name = name,
                    .group = id,
                    .reserved = hardware::reserved_ranges(id),
                    .description = {},
                    .silence = error ? "bound to no driver: only sysfs was looked at"
                                     : fmt::format("bound to {}, no vfio driver: only sysfs was "
                                                   "looked at",
                                                   driver.filename().string())};
}

Result<DeviceInfo> find(const std::string &name, const std::vector<topology::Group> &groups) {
  for (const topology::Group &group : groups)
    for (const topology::Device &device : group.devices)
      if (device.name == name)
        return ask(device, group.id);
  return look_at_unbound(name);
}

Result<std::vector<DeviceInfo>> collect(const InfoOptions &options) {
  const auto groups = topology::scan();
  std::vector<DeviceInfo> devices;
  for (const std::string &name : options.devices) {
    auto found = find(name, groups);
    if (!found)
      return pass_on(found);
    devices.push_back(std::move(*found));
  }
  if (options.devices.empty())
    for (const topology::Group &group : groups)
      for (const topology::Device &device : group.devices)
        devices.push_back(ask(device, group.id));
  if (devices.empty())
    return fail(ENODEV, "no device is bound to a vfio driver");
  return devices;
}

int info(const InfoOptions &options) {
  const auto devices = collect(options);
  if (!devices) {
    spdlog::error("{}", devices.error().where);
    return exit_usage;
  }
  if (options.json)
    std::cout << info_json(*devices).dump(2) << '\n';
  else
    std::cout << info_text(*devices);
  return exit_ok;
}

} // namespace

void add_info(CommandLine &line) {
  auto options = std::make_shared<InfoOptions>();
  auto *command = line.app.add_subcommand(
      "info", "Show what devices and their IOMMUs can do, and what all of them can together");
  command->add_option("DEVICE", options->devices,
                      "Which (0000:03:00.0); default: all that are bound to a vfio driver");
  command->add_flag("--json", options->json, "For programs");
  command->callback([&line, options] { line.chosen = [options] { return info(*options); }; });
}

} // namespace vfio_shim::cli
