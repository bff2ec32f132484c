// SPDX-License-Identifier: MIT
#include "topology/device_file.hpp"

#include "topology/sysfs_link.hpp"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace vfio_shim::topology {

namespace fs = std::filesystem;

namespace {

/// The same arguments as statx(). A file of a FUSE server is not asked about: it need not answer.
Result<fs::path> directory_of(int base, const char *path, int flags, const Roots &roots) {
  struct statx file {};
  if (::statx(base, path, flags | AT_STATX_DONT_SYNC, STATX_TYPE, &file) != 0) {
    const std::error_code error(errno, std::generic_category());
    if (error == std::errc::not_enough_memory)
      return fail(ENOMEM, "statx");
    return fs::path{};
  }
  if (!S_ISCHR(file.stx_mode))
    return fs::path{};
  return roots.sys / "dev/char" / fmt::format("{}:{}", file.stx_rdev_major, file.stx_rdev_minor);
}

/// The device that has the cdev at @p directory of sysfs; "" if that is no VFIO cdev.
Result<std::string> device_of(const Result<fs::path> &directory) {
  if (!directory)
    return pass_on(directory);
  if (directory->empty())
    return std::string{};
  const auto right = is_of_class(*directory, "vfio-dev");
  if (!right)
    return pass_on(right);
  return *right ? link_target_name(*directory / "device") : std::string{};
}

} // namespace

Result<fs::path> sysfs_directory(const Fd &file, const Roots &roots) {
  return directory_of(file.get(), "", AT_EMPTY_PATH, roots);
}

Result<bool> is_of_class(const fs::path &directory, std::string_view name) {
  const auto subsystem = link_target_name(directory / "subsystem");
  if (!subsystem)
    return pass_on(subsystem);
  return *subsystem == name;
}

Result<std::string> device_behind(const Fd &file, const Roots &roots) {
  return device_of(sysfs_directory(file, roots));
}

Result<std::string> device_at(const fs::path &path, const Roots &roots) {
  return device_of(directory_of(AT_FDCWD, path.c_str(), 0, roots));
}

Result<Fd> open_cdev(const Device &device, const Roots &roots) {
  Fd file{::open(device.cdev.c_str(), O_RDWR | O_CLOEXEC)};
  if (!file)
    return fail_errno(device.cdev);
  const auto name = device_behind(file, roots);
  if (!name)
    return pass_on(name);
  if (*name != device.name)
    return fail(ENODEV, fmt::format("{} is no longer {}'s, but {}", device.cdev.string(),
                                    device.name, name->empty() ? "nobody's" : *name + "'s"));
  return file;
}

} // namespace vfio_shim::topology
