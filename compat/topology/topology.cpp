// SPDX-License-Identifier: MIT
#include "vfio_shim/topology.hpp"

#include "topology/sysfs_link.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace vfio_shim::topology {

namespace fs = std::filesystem;

namespace {

/// Drivers with driver_managed_dma set, besides those that give their device a VFIO cdev.
constexpr std::array<std::string_view, 5> drivers_without_dma = {"pci-stub", "pcieport", "vfio-pci",
                                                                 "fsl_mc_dprc", "vfio-platform"};

std::optional<GroupId> parse_group_id(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return GroupId{number};
}

/// Calls @p visit with every entry of @p directory; a directory that is not there has none.
/// @return The first error of @p visit, or of reading the directory.
template <typename Visit>
Result<void> for_each_entry(const fs::path &directory, Visit visit) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error))
    VFIO_SHIM_TRY(visit(entry->path()));
  if (error && !is_not_there(error))
    return fail(error.value(), directory);
  return {};
}

Result<bool> has_vfio_cdev(const fs::path &device) {
  std::error_code error;
  const bool found = fs::exists(device / "vfio-dev", error);
  if (error && !is_not_there(error))
    return fail(error.value(), device);
  return found;
}

} // namespace

fs::path nodes_put_aside(const Roots &roots) {
  return roots.dev / "vfio-kernel";
}

fs::path kernel_node(const std::string &name, const Roots &roots) {
  const fs::path aside = nodes_put_aside(roots) / name;
  std::error_code error;
  return fs::exists(aside, error) ? aside : roots.dev / "vfio" / name;
}

Result<std::vector<Group>> groups(const Roots &roots) {
  std::map<GroupId, Group> found;
  VFIO_SHIM_TRY(
      for_each_entry(roots.sys / "class/vfio-dev", [&](const fs::path &entry) -> Result<void> {
        const auto group_name = link_target_name(entry / "device/iommu_group");
        if (!group_name)
          return pass_on(group_name);
        const auto name = link_target_name(entry / "device");
        if (!name)
          return pass_on(name);
        const auto id = parse_group_id(*group_name);
        if (!id)
          return {}; // Unplugged while we looked, or a device without an IOMMU.
        Group &group = found[*id];
        group.id = *id;
        group.devices.push_back(
            {.name = *name, .cdev = roots.dev / "vfio/devices" / entry.filename()});
        return {};
      }));

  std::vector<Group> ordered;
  for (auto &[id, group] : found) {
    std::ranges::sort(group.devices, {}, &Device::name);
    ordered.push_back(std::move(group));
  }
  return ordered;
}

std::vector<Group> scan(const Roots &roots) {
  return groups(roots).value_or(std::vector<Group>{});
}

Result<Group> find(GroupId id, const Roots &roots) {
  auto present = groups(roots);
  if (!present)
    return pass_on(present);
  for (Group &group : *present)
    if (group.id == id)
      return std::move(group);
  return fail(ENODEV, fmt::format("no device of IOMMU group {} has a VFIO cdev", id.value));
}

Result<bool> viable(GroupId id, const Roots &roots) {
  bool all_left_alone = true;
  VFIO_SHIM_TRY(for_each_entry(
      roots.sys / "kernel/iommu_groups" / std::to_string(id.value) / "devices",
      [&](const fs::path &device) -> Result<void> {
        const auto driver = link_target_name(device / "driver");
        if (!driver)
          return pass_on(driver);
        const auto has_cdev = has_vfio_cdev(device);
        if (!has_cdev)
          return pass_on(has_cdev);
        if (!driver->empty() && !*has_cdev &&
            std::ranges::find(drivers_without_dma, *driver) == drivers_without_dma.end())
          all_left_alone = false;
        return {};
      }));
  return all_left_alone;
}

} // namespace vfio_shim::topology
