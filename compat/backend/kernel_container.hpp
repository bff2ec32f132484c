// SPDX-License-Identifier: MIT
/// @file
/// What the backends on the kernel's own legacy ioctls have in common.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/backend_kind.hpp"

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace vfio_shim {

/// A container's address space in a container of the kernel: a file that answers
/// VFIO_IOMMU_MAP_DMA, and that the kernel's group nodes accept for VFIO_GROUP_SET_CONTAINER.
///
/// The kernel opens a group once; the daemon has it open while the group is claimed. Devices come
/// from VFIO_GROUP_GET_DEVICE_FD, as often as they are asked for. Whether one is open still is
/// known to the kernel alone, and how it says so depends on the container: see may_release().
class KernelContainer : public Backend {
public:
  /// Unmaps everything, also where a client's open devices would keep the container alive.
  ~KernelContainer() override;

  Result<void> claim(const topology::Group &group) override;
  Result<void> attach_claimed() override;
  void follow(const topology::Group &present) override;
  void release(GroupId group) override;
  Result<AddressSpace> address_space() override;
  Result<void> map(Client &client, const MapRequest &request) override;
  Result<void> unmap(IovaRange range) override;
  Result<void> track_dirty(bool on) override;
  Result<void> report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                            std::span<std::uint64_t> bitmap) override;
  Result<Fd> open_device(GroupId group, const topology::Device &device) override;
  void given_away(GroupId group, std::string_view name) override;
  std::vector<std::string> open_devices(GroupId group) override;
  bool may_release(GroupId group) override = 0;
  BackendState describe() const override;

protected:
  /// @param container The container's file.
  KernelContainer(KeptFile container, const topology::Roots &roots, const BackendNeeds &needs)
      : store_(needs.store), file_(std::move(container)), roots_(roots) {}

  /// Opens the container's node, for a new container.
  static Result<KeptFile> open(const std::filesystem::path &node, FileStore &store);
  /// The container's file that a process before this one had.
  static Result<KeptFile> adopt_file(const BackendState &state, FileStore &store);
  /// Takes the rest over.
  void adopt(const topology::Roots &roots, const BackendState &state, const BackendTerms &terms);

  /// The file of a claimed group; nullptr: it is not claimed.
  const Fd *file_of(GroupId group) const;

  /// The container's file.
  const Fd &container() const { return container_; }

  /// Opens a device of every claimed group, for ourselves.
  Result<std::vector<Fd>> open_one_of_each_group();

private:
  struct ClaimedGroup {
    KeptFile file;
    std::vector<topology::Device> devices;
    std::set<std::string> given; ///< Names of devices that were opened; some may be closed since.
  };

  void rejoin(const ClaimedGroup &group);

  std::shared_ptr<FileStore> store_;
  KeptFile file_;
  const Fd &container_ = file_.file();
  topology::Roots roots_;
  std::map<GroupId, ClaimedGroup> claimed_;
  bool iommu_set_ = false;
};

} // namespace vfio_shim
