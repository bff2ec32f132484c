// SPDX-License-Identifier: MIT
#include "cli/replay/cast.hpp"

#include "cli/human.hpp"
#include "cli/trace_text.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfio_shim::cli {

namespace {

/// The groups that somebody could open when it was recorded.
std::set<std::uint32_t> recorded_groups(const observe::Recording &recording) {
  std::set<std::uint32_t> groups;
  for (const trace::Record &record : recording.records)
    if (record.kind == trace::Kind::open_group && record.error == 0)
      groups.insert(record.group);
  return groups;
}

std::set<std::string> recorded_devices(const observe::Recording &recording) {
  std::set<std::string> devices;
  for (const trace::Record &record : recording.records) {
    const auto call = trace::call_of(record);
    if (const auto *get = std::get_if<rules::GetDeviceFd>(&call);
        get != nullptr && record.error == 0)
      devices.emplace(get->name());
  }
  return devices;
}

} // namespace

Result<Cast> find_cast(const observe::Recording &recording, const std::string &device,
                       const topology::Roots &roots) {
  const auto groups = recorded_groups(recording);
  const auto devices = recorded_devices(recording);
  const auto here = topology::scan(roots);
  if (device.empty()) {
    for (const std::uint32_t group : groups)
      if (std::ranges::find(here, GroupId{group}, &topology::Group::id) == here.end())
        return fail(ENODEV,
                    fmt::format("the recording uses IOMMU group {} ({}), and no device of such a "
                                "group is bound to a vfio driver here: bind it, or give --device",
                                group, printable(fmt::format("{}", fmt::join(devices, ", ")))));
    return Cast{};
  }
  if (groups.size() > 1 || devices.size() > 1)
    return fail(ENODEV, fmt::format("the recording uses {} groups and {} devices: --device can "
                                    "stand for a single one",
                                    groups.size(), devices.size()));
  for (const topology::Group &group : here)
    for (const topology::Device &candidate : group.devices)
      if (candidate.name == device) {
        Cast cast;
        for (const std::uint32_t recorded : groups)
          cast.groups.emplace(recorded, group.id.value);
        for (const std::string &recorded : devices)
          cast.devices.emplace(recorded, device);
        return cast;
      }
  return fail(ENODEV, fmt::format("no device {} is bound to a vfio driver here", device));
}

} // namespace vfio_shim::cli
