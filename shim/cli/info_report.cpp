// SPDX-License-Identifier: MIT
#include "cli/info_report.hpp"

#include "cli/human.hpp"

#include <bit>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfio_shim::cli {

namespace {

using nlohmann::ordered_json;

std::vector<Bytes> page_sizes_of(const AddressSpace &space) {
  std::vector<Bytes> sizes;
  for (std::uint64_t rest = space.page_sizes; rest != 0; rest &= rest - 1)
    sizes.emplace_back(std::uint64_t{1} << std::countr_zero(rest));
  return sizes;
}

std::string page_sizes_text(const AddressSpace &space) {
  std::vector<std::string> names;
  for (const Bytes size : page_sizes_of(space))
    names.push_back(human_bytes(size));
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string usable_text(const AddressSpace &space) {
  std::string text;
  for (const IovaRange &range : space.usable)
    text += fmt::format("{}{}", text.empty() ? "" : " ", range);
  return text.empty() ? "none" : text;
}

std::string row(const std::string &name, const std::string &value) {
  return fmt::format("  {:<16}{}\n", name, value);
}

std::string yes_no(bool yes) {
  return yes ? "yes" : "no";
}

std::string capabilities_text(const hardware::Capabilities &can) {
  return row("usable IOVAs", usable_text(can.space)) +
         row("page sizes", page_sizes_text(can.space)) +
         row("coherent", yes_no(can.space.coherent)) +
         row("dirty tracking", yes_no(can.dirty_tracking)) + row("nesting", yes_no(can.nesting)) +
         row("PASID width", can.pasid_bits == 0 ? "none" : fmt::format("{} bits", can.pasid_bits)) +
         row("ATS", can.ats ? "possible" : "no");
}

std::string device_text(const DeviceInfo &device) {
  std::string text = fmt::format("{} (IOMMU group {})\n", device.name, device.group.value);
  if (device.description)
    text += row("IOMMU", hardware::iommu_type_name(device.description->iommu_type)) +
            capabilities_text(device.description->capabilities);
  else
    text += row("not asked", device.silence);
  for (const hardware::Reserved &reserved : device.reserved)
    text += row("reserved", fmt::format("{} {}", reserved.range, reserved.type));
  return text;
}

ordered_json ranges_json(const std::vector<IovaRange> &ranges) {
  auto json = ordered_json::array();
  for (const IovaRange &range : ranges)
    json.push_back({{"first", range.first.value}, {"last", range.last.value}});
  return json;
}

ordered_json capabilities_json(const hardware::Capabilities &can) {
  ordered_json sizes = ordered_json::array();
  for (const Bytes size : page_sizes_of(can.space))
    sizes.push_back(size.value);
  return {{"usable", ranges_json(can.space.usable)},
          {"page_sizes", sizes},
          {"coherent", can.space.coherent},
          {"dirty_tracking", can.dirty_tracking},
          {"nesting", can.nesting},
          {"pasid_bits", can.pasid_bits},
          {"ats_possible", can.ats}};
}

ordered_json device_json(const DeviceInfo &device) {
  ordered_json json{{"name", device.name}, {"group", device.group.value}};
  if (device.description) {
    json["iommu"] = hardware::iommu_type_name(device.description->iommu_type);
    json["capabilities"] = capabilities_json(device.description->capabilities);
  } else {
    json["not_asked"] = device.silence;
  }
  json["reserved"] = ordered_json::array();
  for (const hardware::Reserved &reserved : device.reserved)
    json["reserved"].push_back({{"first", reserved.range.first.value},
                                {"last", reserved.range.last.value},
                                {"type", reserved.type}});
  return json;
}

} // namespace

std::optional<Promise> promise_of(const std::vector<DeviceInfo> &devices) {
  std::optional<Promise> promise;
  for (const DeviceInfo &device : devices) {
    if (!device.description)
      continue;
    const auto &can = device.description->capabilities;
    if (promise)
      promise->capabilities = hardware::least_common(promise->capabilities, can);
    else
      promise = Promise{.capabilities = can, .not_asked = {}};
  }
  if (!promise)
    return promise;
  for (const DeviceInfo &device : devices) {
    hardware::leave_out(promise->capabilities.space, device.reserved);
    if (!device.description)
      promise->not_asked.push_back(device.name);
  }
  return promise;
}

std::string info_text(const std::vector<DeviceInfo> &devices) {
  std::string text;
  for (const DeviceInfo &device : devices)
    text += device_text(device) + '\n';
  const auto promise = promise_of(devices);
  text += fmt::format("all {} together: what a VM with them could be promised at its start\n",
                      devices.size());
  if (!promise)
    return text + "  nothing is known: no device could be asked\n";
  text += capabilities_text(promise->capabilities);
  if (!promise->not_asked.empty())
    text += row("but", fmt::format("of {} only the reserved ranges are known",
                                   fmt::join(promise->not_asked, ", ")));
  return text;
}

ordered_json info_json(const std::vector<DeviceInfo> &devices) {
  ordered_json json{{"devices", ordered_json::array()}, {"together", nullptr}};
  for (const DeviceInfo &device : devices)
    json["devices"].push_back(device_json(device));
  if (const auto promise = promise_of(devices)) {
    json["together"] = capabilities_json(promise->capabilities);
    json["together"]["not_asked"] = promise->not_asked;
  }
  return json;
}

} // namespace vfio_shim::cli
