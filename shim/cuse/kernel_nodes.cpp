// SPDX-License-Identifier: MIT
#include "cuse/kernel_nodes.hpp"

#include "abi/iommufd.hpp"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace vfio_shim::cuse {

namespace fs = std::filesystem;

namespace {

/// VFIO_MINOR of the misc devices, in include/linux/miscdevice.h.
constexpr unsigned int misc_major = 10;
constexpr unsigned int vfio_minor = 196;
const dev_t containers_number = ::gnu_dev_makedev(misc_major, vfio_minor);

/// The character device at @p path; 0: there is none.
dev_t device_at(const fs::path &path) {
  struct stat found {};
  return ::lstat(path.c_str(), &found) == 0 && S_ISCHR(found.st_mode) ? found.st_rdev : dev_t{0};
}

Result<void> make_directory(const fs::path &path) {
  constexpr mode_t everybody_looks = 0755;
  if (::mkdir(path.c_str(), everybody_looks) != 0 && errno != EEXIST)
    return fail_errno(path);
  return {};
}

/// The type of the file system that has the number @p device: "devtmpfs"; "" if none is mounted.
std::string type_of_file_system(dev_t device) {
  const std::string number = fmt::format("{}:{}", ::gnu_dev_major(device), ::gnu_dev_minor(device));
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string id;
    std::string parent;
    std::string found;
    words >> id >> parent >> found;
    const auto end_of_options = line.find(" - ");
    if (found == number && end_of_options != std::string::npos) {
      std::istringstream rest(line.substr(end_of_options + 3));
      std::string type;
      rest >> type;
      return type;
    }
  }
  return {};
}

} // namespace

KernelNodes::KernelNodes(topology::Roots roots)
    : roots_(std::move(roots)),
      place_(roots_.dev / "vfio"),
      aside_(topology::nodes_put_aside(roots_)) {}

Result<void> KernelNodes::check() const {
  struct stat found {};
  if (::stat(place_.c_str(), &found) != 0)
    return errno == ENOENT ? Result<void>{} : fail_errno(place_);
  const std::string type = type_of_file_system(found.st_dev);
  if (type != "devtmpfs")
    return fail(ENOTSUP, fmt::format("{} is in a file system of type {}, not devtmpfs: the host's "
                                     "other programs would not see the shim's nodes there",
                                     place_.string(), type.empty() ? "unknown" : type));
  return {};
}

/// What the kernel says is the node's number; 0: it has no such node.
dev_t KernelNodes::number_of(const std::string &name) const {
  const fs::path entry = name == "vfio" ? roots_.sys / "class/misc/vfio/dev"
                                        : roots_.sys / "class/vfio" / name / "dev";
  std::ifstream file(entry);
  unsigned int major = 0;
  unsigned int minor = 0;
  char colon = 0;
  return file >> major >> colon >> minor ? ::gnu_dev_makedev(major, minor) : dev_t{0};
}

Result<void> KernelNodes::put_aside(const std::string &name) const {
  const std::scoped_lock lock(mutex_);
  const dev_t number = number_of(name);
  if (number == 0)
    return {};
  if (device_at(place_ / name) == number)
    return move_aside(name);
  if (device_at(aside_ / name) == number)
    return {};
  // The kernel could not make it: a node of ours, on its way out, had the name.
  VFIO_SHIM_TRY(make_directory(aside_));
  ::unlink((aside_ / name).c_str());
  constexpr mode_t roots_own = 0600;
  if (::mknod((aside_ / name).c_str(), S_IFCHR | roots_own, number) != 0)
    return fail_errno(aside_ / name);
  return {};
}

Result<void> KernelNodes::move_aside(const std::string &name) const {
  VFIO_SHIM_TRY(make_directory(aside_));
  if (::rename((place_ / name).c_str(), (aside_ / name).c_str()) != 0)
    return fail_errno(place_ / name);
  return {};
}

Result<void> KernelNodes::return_one(const std::string &name, dev_t number) const {
  if (device_at(aside_ / name) != number)
    return {};
  VFIO_SHIM_TRY(make_directory(place_)); // The kernel removes it with what was its last node.
  if (::rename((aside_ / name).c_str(), (place_ / name).c_str()) != 0)
    return fail_errno(place_ / name);
  return {};
}

Result<void> KernelNodes::put_back(const std::string &name) const {
  const std::scoped_lock lock(mutex_);
  if (const dev_t number = number_of(name); number != 0)
    VFIO_SHIM_TRY(return_one(name, number));
  ::rmdir(aside_.c_str()); // If it was the last one.
  return {};
}

bool KernelNodes::has_container() const {
  // Before its module is loaded there may be a node already, which has it loaded.
  return number_of("vfio") != 0 || device_at(place_ / "vfio") == containers_number ||
         device_at(aside_ / "vfio") == containers_number;
}

bool KernelNodes::is_container(const Fd &file) const {
  struct stat opened {};
  return ::fstat(file.get(), &opened) == 0 && S_ISCHR(opened.st_mode) &&
         opened.st_rdev == containers_number;
}

bool KernelNodes::forget_if_gone(const std::string &name) const {
  const std::scoped_lock lock(mutex_);
  if (number_of(name) != 0)
    return false;
  ::unlink((aside_ / name).c_str());
  return true;
}

bool KernelNodes::are_aside() const {
  std::error_code error;
  return fs::exists(aside_, error);
}

Result<std::vector<std::string>> KernelNodes::put_back() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(aside_, error), end; !error && entry != end;
       entry.increment(error))
    names.push_back(entry->path().filename());
  std::vector<std::string> done;
  Result<void> result;
  for (const std::string &name : names) {
    const dev_t number = number_of(name);
    if (number == 0 || device_at(aside_ / name) != number) {
      ::unlink((aside_ / name).c_str()); // Its group has gone meanwhile.
    } else if (auto returned = return_one(name, number); returned) {
      done.push_back(name);
    } else if (result) {
      result = std::move(returned);
    }
  }
  if (::rmdir(aside_.c_str()) != 0 && errno != ENOENT && result)
    result = fail_errno(aside_);
  if (!result)
    return pass_on(result);
  return done;
}

bool has_groups(const Fd &container) {
  // A container with groups looks for who can do this, and finds nobody; one without does not look.
  constexpr unsigned long no_iommu_type = 0xffff'ffff;
  if (::ioctl(container.get(), VFIO_SET_IOMMU, no_iommu_type) != 0 && errno == ENODEV)
    return true;
  // With its IOMMU set it does not look either, and type1 finds no argument here: EFAULT, before it
  // takes a lock that its client may hold for ever. Without, nobody is there to answer: EINVAL.
  if (::ioctl(container.get(), VFIO_IOMMU_GET_INFO, nullptr) == 0 || errno != EFAULT)
    return errno != EINVAL;
  // Of iommufd in the container's place (CONFIG_IOMMUFD_VFIO_CONTAINER) that says nothing yet.
  abi::IommuVfioIoas ioas{.op = abi::vfio_ioas_get};
  return ::ioctl(container.get(), abi::iommu_vfio_ioas, &ioas) == 0 || errno != ENODEV;
}

} // namespace vfio_shim::cuse
