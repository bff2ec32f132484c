#include "backend/kernel_compat.hpp"

#include "backend/iommufd.hpp"

#include <fcntl.h>

namespace vfio_shim {

Result<void> KernelCompatBackend::check(const topology::Roots &roots) {
  std::error_code error;
  if (!std::filesystem::exists(roots.sys / "class/vfio", error)) // The class of the group nodes.
    return fail(ENODEV,
                "backend kernel-compat is not there: it needs a kernel with CONFIG_VFIO_GROUP");
  return IommufdBackend::check(roots);
}

Result<std::unique_ptr<Backend>> KernelCompatBackend::create(const topology::Roots &roots) {
  const std::filesystem::path node = roots.dev / "iommu";
  Fd iommufd{::open(node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!iommufd)
    return fail_errno(node);
  return std::unique_ptr<Backend>(new KernelCompatBackend(std::move(iommufd), group_nodes(roots)));
}

Result<AddressSpace> KernelCompatBackend::address_space() {
  // A device is attached as long as it is open: what its IOMMU can do is not known otherwise.
  const auto attached = open_one_of_each_group();
  if (!attached)
    return pass_on(attached);
  return KernelContainer::address_space();
}

} // namespace vfio_shim
