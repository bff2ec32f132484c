// SPDX-License-Identifier: MIT
#include "supervise/vfio_files.hpp"

#include "topology/device_file.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>

namespace vfio_shim::supervise {

namespace {

namespace fs = std::filesystem;

/// "vfio/12": the node's name below /dev.
std::string node_name(const fs::path &directory) {
  constexpr std::string_view key = "DEVNAME=";
  std::ifstream lines(directory / "uevent");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key))
      return line.substr(key.size());
  return {};
}

} // namespace

std::optional<GroupId> group_behind(const Fd &file) {
  const fs::path directory = topology::sysfs_directory(file).value_or(fs::path{});
  if (directory.empty() || !topology::is_of_class(directory, "cuse").value_or(false))
    return std::nullopt;
  const fs::path name = node_name(directory);
  const std::string number = name.filename();
  std::uint32_t group = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), group);
  if (!name.string().starts_with("vfio") || error != std::errc{} ||
      end != number.data() + number.size())
    return std::nullopt;
  return GroupId{group};
}

bool is_device(const Fd &file) {
  return !topology::device_behind(file).value_or("").empty();
}

} // namespace vfio_shim::supervise
