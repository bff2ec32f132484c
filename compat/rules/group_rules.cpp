// SPDX-License-Identifier: MIT
#include "rules/group_rules.hpp"

#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <linux/vfio.h>

namespace vfio_shim::rules {

Result<void> check_operation(const Operation *operation) {
  if (operation == nullptr || operation->target != Target::group)
    return fail(ENOTTY, "unknown ioctl");
  return {};
}

GetStatus answer_to(const GetStatus &call, bool viable, bool in_container) {
  return {.argsz = call.argsz,
          .flags = (viable ? VFIO_GROUP_FLAGS_VIABLE : 0U) |
                   (in_container ? VFIO_GROUP_FLAGS_CONTAINER_SET : 0U)};
}

Result<void> check_set_container(bool closed, bool in_container) {
  if (closed)
    return fail(ENODEV, "the group is closed, or was unplugged");
  if (in_container)
    return fail(EINVAL, "group is in a container already");
  return {};
}

Result<void> check_in_container(bool in_container) {
  if (!in_container)
    return fail(EINVAL, "group is in no container");
  return {};
}

Result<topology::Device> find_device(const GetDeviceFd &call, const topology::Group &group) {
  const auto found = std::ranges::find(group.devices, call.name(), &topology::Device::name);
  if (found == group.devices.end())
    return fail(ENODEV,
                fmt::format("no device {} in group {}", quoted_name(call.name()), group.id.value));
  if (call.options().find_first_not_of(' ') != std::string_view::npos)
    return fail(EINVAL, fmt::format("device options {} not supported (VF tokens)",
                                    quoted_name(call.options())));
  return *found;
}

} // namespace vfio_shim::rules
