// SPDX-License-Identifier: MIT
/// @file
/// The backend on the kernel's own container and its type1 driver.
#pragma once

#include "backend/kernel_container.hpp"

#include <memory>

namespace vfio_shim {

/// A container's address space in a container of the kernel's own VFIO (/dev/vfio/vfio).
class Type1Backend final : public KernelContainer {
public:
  /// See check_backend().
  static Result<void> check(const topology::Roots &roots);

  static Result<std::unique_ptr<Backend>> create(const topology::Roots &roots,
                                                 const BackendNeeds &needs);
  /// See BackendAdopter.
  static Result<std::unique_ptr<Backend>> adopt(const topology::Roots &roots,
                                                const BackendNeeds &needs,
                                                const BackendState &state,
                                                const BackendTerms &terms);

  /// The kernel lets no group leave a container while a device of it is open.
  bool may_release(GroupId group) override;

private:
  using KernelContainer::KernelContainer;
};

} // namespace vfio_shim
