/// @file
/// The backend on iommufd's own translation of the legacy ioctls.
#pragma once

#include "backend/kernel_container.hpp"

#include <memory>

namespace vfio_shim {

/// A container's address space in an iommufd that plays the container (/dev/iommu).
///
/// What it cannot do stays undone, for that is what it is compared for: it attaches a device when
/// its file is made, so what is mapped before is pinned only then, and so on. But it is asked about
/// its address space with devices attached.
class KernelCompatBackend final : public KernelContainer {
public:
  /// See check_backend().
  static Result<void> check(const topology::Roots &roots);

  static Result<std::unique_ptr<Backend>> create(const topology::Roots &roots);

  Result<AddressSpace> address_space() override;

private:
  using KernelContainer::KernelContainer;
};

} // namespace vfio_shim
