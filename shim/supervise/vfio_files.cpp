#include "supervise/vfio_files.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace vfio_shim::supervise {

namespace {

namespace fs = std::filesystem;

/// The sysfs directory of the character device that @p file is open on; empty if it is none.
fs::path sysfs_directory(const Fd &file) {
  struct stat opened {};
  if (::fstat(file.get(), &opened) != 0 || !S_ISCHR(opened.st_mode))
    return {};
  return fmt::format("/sys/dev/char/{}:{}", major(opened.st_rdev), minor(opened.st_rdev));
}

bool is_of_class(const fs::path &directory, std::string_view name) {
  std::error_code error;
  const fs::path target = fs::read_symlink(directory / "subsystem", error);
  return !error && target.filename() == name;
}

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
  const fs::path directory = sysfs_directory(file);
  if (directory.empty() || !is_of_class(directory, "cuse"))
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
  const fs::path directory = sysfs_directory(file);
  return !directory.empty() && is_of_class(directory, "vfio-dev");
}

} // namespace vfio_shim::supervise
