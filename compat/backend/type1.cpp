// SPDX-License-Identifier: MIT
#include "backend/type1.hpp"

#include "abi/iommufd.hpp"
#include "abi/vfio.hpp"
#include "backend/ioctl.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace vfio_shim {

namespace {

std::filesystem::path container_node(const topology::Roots &roots) {
  return topology::kernel_node("vfio", roots);
}

/// Whether the node is the kernel's, and not one of ours: it has a number of its own.
bool is_the_kernels(const std::filesystem::path &node) {
  constexpr unsigned int misc_major = 10;
  constexpr unsigned int vfio_minor = 196;
  struct stat found {};
  return ::stat(node.c_str(), &found) == 0 && S_ISCHR(found.st_mode) &&
         found.st_rdev == makedev(misc_major, vfio_minor);
}

/// With CONFIG_IOMMUFD_VFIO_CONTAINER iommufd takes the container's place.
bool is_iommufd(const Fd &container) {
  abi::IommuOption option{.option_id = abi::option_rlimit_mode, .op = abi::option_op_get};
  return run_ioctl(container, abi::iommu_option, &option, "IOMMU_OPTION").has_value();
}

} // namespace

Result<void> Type1Backend::check(const topology::Roots &roots) {
  if (!is_the_kernels(container_node(roots)))
    return fail(ENODEV, "backend type1 is not there: it needs a kernel with CONFIG_VFIO_GROUP, "
                        "CONFIG_VFIO_CONTAINER and CONFIG_VFIO_IOMMU_TYPE1");
  const Fd container{::open(container_node(roots).c_str(), O_RDWR | O_CLOEXEC)};
  if (!container)
    return fail(errno, fmt::format("backend type1: cannot open {} ({})",
                                   container_node(roots).string(), errno_name(errno)));
  if (is_iommufd(container))
    return fail(ENODEV, "backend type1 is not there: CONFIG_IOMMUFD_VFIO_CONTAINER has taken its "
                        "place; it needs a kernel with CONFIG_VFIO_CONTAINER");
  if (::ioctl(container.get(), VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
    return fail(ENODEV, "backend type1 is not there: load it with `modprobe vfio_iommu_type1`, or "
                        "build the kernel with CONFIG_VFIO_IOMMU_TYPE1");
  return {};
}

Result<std::unique_ptr<Backend>> Type1Backend::create(const topology::Roots &roots,
                                                      const BackendNeeds &needs) {
  auto file = open(container_node(roots), *needs.store);
  if (!file)
    return pass_on(file);
  return std::unique_ptr<Backend>(new Type1Backend(std::move(*file), roots, needs));
}

Result<std::unique_ptr<Backend>> Type1Backend::adopt(const topology::Roots &roots,
                                                     const BackendNeeds &needs,
                                                     const BackendState &state,
                                                     const BackendTerms &terms) {
  auto file = adopt_file(state, *needs.store);
  if (!file)
    return pass_on(file);
  std::unique_ptr<Type1Backend> backend(new Type1Backend(std::move(*file), roots, needs));
  backend->KernelContainer::adopt(roots, state, terms);
  return backend;
}

bool Type1Backend::may_release(GroupId group) {
  const Fd *file = file_of(group);
  return file == nullptr || ::ioctl(file->get(), VFIO_GROUP_UNSET_CONTAINER) == 0 || errno != EBUSY;
}

} // namespace vfio_shim
