#include "topology/device_file.hpp"

#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace vfio_shim::topology {

namespace fs = std::filesystem;

namespace {

/// The last component of what the link @p link points to, or "" if there is no such link.
std::string link_target_name(const fs::path &link) {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  return error ? std::string{} : target.filename().string();
}

/// The same arguments as statx(). A file of a FUSE server is not asked about: it need not answer.
fs::path directory_of(int base, const char *path, int flags, const Roots &roots) {
  struct statx file {};
  if (::statx(base, path, flags | AT_STATX_DONT_SYNC, STATX_TYPE, &file) != 0 ||
      !S_ISCHR(file.stx_mode))
    return {};
  return roots.sys / "dev/char" / fmt::format("{}:{}", file.stx_rdev_major, file.stx_rdev_minor);
}

/// The device that has the cdev at @p directory of sysfs; "" if that is no VFIO cdev.
std::string device_of(const fs::path &directory) {
  if (directory.empty() || !is_of_class(directory, "vfio-dev"))
    return {};
  return link_target_name(directory / "device");
}

} // namespace

fs::path sysfs_directory(const Fd &file, const Roots &roots) {
  return directory_of(file.get(), "", AT_EMPTY_PATH, roots);
}

bool is_of_class(const fs::path &directory, std::string_view name) {
  return link_target_name(directory / "subsystem") == name;
}

std::string device_behind(const Fd &file, const Roots &roots) {
  return device_of(sysfs_directory(file, roots));
}

std::string device_at(const fs::path &path, const Roots &roots) {
  return device_of(directory_of(AT_FDCWD, path.c_str(), 0, roots));
}

Result<Fd> open_cdev(const Device &device, const Roots &roots) {
  Fd file{::open(device.cdev.c_str(), O_RDWR | O_CLOEXEC)};
  if (!file)
    return fail_errno(device.cdev);
  if (const std::string name = device_behind(file, roots); name != device.name)
    return fail(ENODEV, fmt::format("{} is no longer {}'s, but {}", device.cdev.string(),
                                    device.name, name.empty() ? "nobody's" : name + "'s"));
  return file;
}

} // namespace vfio_shim::topology
