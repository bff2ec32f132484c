// SPDX-License-Identifier: MIT
/// @file
/// The backend on iommufd: one IOAS on an iommufd of its own, devices through their cdevs.
#pragma once

#include "backend/bound_device.hpp"
#include "backend/device_memory.hpp"
#include "backend/domain.hpp"
#include "backend/ioas.hpp"
#include "backend/staging.hpp"

#include "vfio_shim/backend.hpp"
#include "vfio_shim/backend_kind.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace vfio_shim {

/// A container's address space on iommufd.
///
/// DMA ownership of a group is held by holding one of its devices bound: the *anchor*, an open and
/// bound cdev. When the client asks for that device it gets the anchor's file itself (a device can
/// be bound only once), and from then on the client's file is what holds the group. If the client
/// closes it, attach_claimed() opens a new anchor. A device that is to be unbound from its driver
/// cannot go while its anchor is there: follow() makes another device of the group the anchor.
///
/// Pages are pinned as long as an IOMMU domain carries them. The domains are made here, one
/// for all groups that can share it, and do not go with a device that its client closes: what was
/// mapped stays pinned, as in type1, even if the program unmaps the memory meanwhile.
class IommufdBackend final : public Backend {
public:
  /// See check_backend().
  static Result<void> check(const topology::Roots &roots);

  /// Opens /dev/iommu and prepares an IOAS that charges pinned pages to the process, as type1 does.
  static Result<std::unique_ptr<Backend>> create(const std::filesystem::path &iommu_node,
                                                 const BackendNeeds &needs = {});
  /// See BackendMaker. An address space for legacy calls that is there already is used.
  static Result<std::unique_ptr<Backend>> create_on(Fd iommufd, const BackendNeeds &needs);
  /// See BackendAdopter.
  static Result<std::unique_ptr<Backend>> adopt(const topology::Roots &roots,
                                                const BackendNeeds &needs,
                                                const BackendState &state,
                                                const BackendTerms &terms);

  /// Unmaps everything and leaves the iommufd empty, also where a client's devices or a descriptor
  /// of it in a client keep it alive.
  ~IommufdBackend() override;

  Result<void> keep_usable(IovaRange window) override;
  Result<void> claim(const topology::Group &group) override;
  Result<void> attach_claimed() override;
  void follow(const topology::Group &present) override;
  void release(GroupId group) override;
  Result<AddressSpace> address_space() override;
  Result<void> map(Client &client, const MapRequest &request) override;
  Result<void> unmap(IovaRange range) override;
  Result<Fd> file_for_client(std::uint64_t iommu_type) override;
  void share_with_client(bool shared) override;
  Result<Bytes> unmap_as_client(std::uint32_t flags, Iova iova, Bytes size) override;
  Result<void> track_dirty(bool on) override;
  Result<void> report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                            std::span<std::uint64_t> bitmap) override;
  Result<Fd> open_device(GroupId group, const topology::Device &device) override;
  void given_away(GroupId group, std::string_view name) override;
  std::vector<std::string> open_devices(GroupId group) override;
  BackendState describe() const override;

private:
  using Devices = std::vector<BoundDevice>;

  struct ClaimedGroup {
    std::shared_ptr<Domain> domain; ///< What its devices are attached to, once they are.
    Devices devices;                ///< Gone before the domain.
  };

  IommufdBackend(KeptFile iommufd, const BackendNeeds &needs)
      : store_(needs.store), file_(std::move(iommufd)), device_memory_(needs.device_memory) {}

  Result<void> make_ioas();
  void adopt(const BackendState::Group &group, const topology::Group &present);
  void sweep();
  Result<void> map_part(Client &client, Iova iova, const MemoryPart &part, Access access);
  Result<void> bind(BoundDevice &device, const topology::Device &as_it_is_now);
  Result<void> attach(ClaimedGroup &group, BoundDevice &device);
  Result<void> explained(BoundDevice &device, Result<void> result);
  std::optional<IovaRange> hole_in_window(BoundDevice &device);
  Result<std::shared_ptr<Domain>> make_domain(const BoundDevice &device);
  Domains domains() const;
  Result<void> ensure_anchor(Devices &devices);
  Result<void> attach_all_of(ClaimedGroup &group);
  BoundDevice *find(GroupId group, std::string_view name);

  std::shared_ptr<FileStore> store_;
  KeptFile file_;
  const Fd &iommufd_ = file_.file();
  std::unique_ptr<Ioas> ioas_;
  /// The source of memory that has no file. None: a client may have the iommufd.
  std::unique_ptr<Staging> staging_;
  std::shared_ptr<DeviceMemory> device_memory_;
  std::optional<IovaRange> window_;
  std::map<GroupId, ClaimedGroup> claimed_;
  bool tracking_dirty_ = false;
};

} // namespace vfio_shim
