// SPDX-License-Identifier: MIT
#include "cuse/group_choice.hpp"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <regex>
#include <system_error>

#include <fmt/format.h>

namespace vfio_shim::cuse {

namespace fs = std::filesystem;

bool GroupChoice::has(GroupId group, const topology::Roots &roots) const {
  const fs::path members =
      roots.sys / "kernel/iommu_groups" / std::to_string(group.value) / "devices";
  const bool named = std::ranges::any_of(devices, [&](const std::string &device) {
    std::error_code error;
    return fs::exists(members / device, error);
  });
  return is_all() || named != left_out;
}

std::vector<std::string> GroupChoice::unknown(const topology::Roots &roots) const {
  std::vector<std::string> unknown;
  std::ranges::copy_if(devices, std::back_inserter(unknown), [&](const std::string &device) {
    std::error_code error;
    for (fs::directory_iterator group(roots.sys / "kernel/iommu_groups", error), end;
         !error && group != end; group.increment(error)) {
      std::error_code not_there;
      if (fs::exists(group->path() / "devices" / device, not_there))
        return false;
    }
    return true;
  });
  return unknown;
}

std::string full_device_name(const std::string &name) {
  static const std::regex address("(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\\.([0-7])",
                                  std::regex::icase);
  std::smatch parts;
  if (!std::regex_match(name, parts, address))
    return name;
  const auto number = [&parts](std::size_t part) {
    constexpr int hexadecimal = 16;
    return parts[part].matched ? std::stoul(parts[part].str(), nullptr, hexadecimal) : 0;
  };
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", number(1), number(2), number(3), number(4));
}

} // namespace vfio_shim::cuse
