// SPDX-License-Identifier: MIT
/// @file
/// The backend on iommufd's own translation of the legacy ioctls.
#pragma once

#include "backend/kernel_container.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

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

  static Result<std::unique_ptr<Backend>> create(const topology::Roots &roots,
                                                 const BackendNeeds &needs);
  /// See BackendAdopter.
  static Result<std::unique_ptr<Backend>> adopt(const topology::Roots &roots,
                                                const BackendNeeds &needs,
                                                const BackendState &state,
                                                const BackendTerms &terms);

  Result<AddressSpace> address_space() override;
  /// @return EBUSY: the device is open in another container, or it cannot be told whether it is.
  Result<Fd> open_device(GroupId group, const topology::Device &device) override;
  std::vector<std::string> open_devices(GroupId group) override;
  bool may_release(GroupId group) override { return open_devices(group).empty(); }
  BackendState describe() const override;

private:
  using KernelContainer::KernelContainer;

  /// An object of the iommufd that stands for an open device. The kernel lets a group leave
  /// although its devices are open, so they are known by these: nobody can make or keep one
  /// otherwise.
  using ObjectId = std::uint32_t;
  struct OpenDevice {
    GroupId group;
    std::string name;
  };

  void recognise(const BackendState &state);
  bool is_device(ObjectId object) const;
  std::set<ObjectId> device_objects() const;
  bool note_opened(const std::set<ObjectId> &before, OpenDevice opened);

  std::map<ObjectId, OpenDevice> open_; ///< Some may be closed since.
};

} // namespace vfio_shim
