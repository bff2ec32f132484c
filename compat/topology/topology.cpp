#include "vfio_shim/topology.hpp"

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

/// The last component of what the link @p link points to, or "" if there is no such link.
std::string link_target_name(const fs::path &link) {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  return error ? std::string{} : target.filename().string();
}

std::optional<GroupId> parse_group_id(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return GroupId{number};
}

/// Calls @p visit with every entry of @p directory; a directory that is not there has none.
template <typename Visit>
Result<void> for_each_entry(const fs::path &directory, Visit visit) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error))
    visit(entry->path());
  if (error && error != std::errc::no_such_file_or_directory)
    return fail(error.value(), directory);
  return {};
}

bool has_vfio_cdev(const fs::path &device) {
  std::error_code error;
  return fs::exists(device / "vfio-dev", error);
}

} // namespace

Result<std::vector<Group>> groups(const Roots &roots) {
  std::map<GroupId, Group> groups;
  const auto add = [&](const fs::path &entry) {
    const auto id = parse_group_id(link_target_name(entry / "device/iommu_group"));
    if (!id)
      return; // Unplugged while we looked, or a device without an IOMMU.
    Group &group = groups[*id];
    group.id = *id;
    group.devices.push_back({.name = link_target_name(entry / "device"),
                             .cdev = roots.dev / "vfio/devices" / entry.filename()});
  };
  VFIO_SHIM_TRY(for_each_entry(roots.sys / "class/vfio-dev", add));

  std::vector<Group> ordered;
  for (auto &[id, group] : groups) {
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

bool viable(GroupId id, const Roots &roots) {
  bool all_left_alone = true;
  (void)for_each_entry(roots.sys / "kernel/iommu_groups" / std::to_string(id.value) / "devices",
                       [&](const fs::path &device) {
                         const std::string driver = link_target_name(device / "driver");
                         if (driver.empty() || has_vfio_cdev(device))
                           return;
                         if (std::ranges::find(drivers_without_dma, driver) ==
                             drivers_without_dma.end())
                           all_left_alone = false;
                       });
  return all_left_alone;
}

} // namespace vfio_shim::topology
