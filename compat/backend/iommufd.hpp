/// @file
/// The backend on iommufd: one IOAS on an iommufd of its own, devices through their cdevs.
#pragma once

#include "vfio_shim/backend.hpp"

#include <map>
#include <string>

namespace vfio_shim {

/// Runs an iommufd (or VFIO cdev) ioctl on a file of this process.
/// @param what The ioctl's name, for the error.
Result<void> run_ioctl(const Fd &file, unsigned long command, void *argument, const char *what);

/// A container's address space on iommufd.
///
/// DMA ownership of a group is held by holding one of its devices bound: the *anchor*, an open and
/// bound cdev. When the client asks for that device it gets the anchor's file itself (a device can
/// be bound only once), and from then on the client's file is what holds the group. If the client
/// closes it, attach_claimed() opens a new anchor.
///
/// Pages are pinned as long as an IOMMU domain (HWPT) carries them. The domains are made here, one
/// for all groups that can share it, and do not go with a device that its client closes: what was
/// mapped stays pinned, as in type1, even if the program unmaps the memory meanwhile.
class IommufdBackend final : public Backend {
public:
  /// Opens /dev/iommu and prepares an IOAS that charges pinned pages to the process, as type1 does.
  static Result<std::unique_ptr<Backend>> create(const std::filesystem::path &iommu_node);

  /// Unmaps everything, also where a client's open devices would keep the iommufd alive.
  ~IommufdBackend() override;

  Result<void> claim(const topology::Group &group) override;
  Result<void> attach_claimed() override;
  void release(GroupId group) override;
  Result<AddressSpace> address_space() override;
  Result<void> map(Client &client, const MapRequest &request) override;
  Result<void> unmap(IovaRange range) override;
  Result<Fd> open_device(GroupId group, const topology::Device &device) override;
  void given_away(GroupId group, std::string_view name) override;
  std::vector<std::string> open_devices(GroupId group) override;

private:
  struct BoundDevice {
    explicit BoundDevice(topology::Device which) : device(std::move(which)) {}

    topology::Device device;
    std::uint32_t devid = 0; ///< Its object in the iommufd; meaningful while bound.
    bool bound = false;      ///< As far as we know: still_bound() asks the kernel.
    bool attached = false;
    Fd anchor; ///< Owned until the client has it.
  };
  using Devices = std::vector<BoundDevice>;

  struct ClaimedGroup {
    Devices devices;
    std::uint32_t hwpt_id = 0; ///< The domain its devices are attached to; 0: none yet.
  };

  IommufdBackend(Fd iommufd, std::uint32_t ioas_id)
      : iommufd_(std::move(iommufd)), ioas_id_(ioas_id) {}

  Result<void> bind(BoundDevice &device);
  Result<void> attach(ClaimedGroup &group, BoundDevice &device);
  Result<std::uint32_t> make_domain(const BoundDevice &device);
  void destroy_domain_unless_used(std::uint32_t hwpt_id);
  bool still_bound(BoundDevice &device);
  Result<void> ensure_anchor(Devices &devices);
  Result<void> map_part(Client &client, Iova iova, const MemoryPart &part, Access access);
  void forget_object(std::uint32_t devid);
  BoundDevice *find(GroupId group, std::string_view name);

  Fd iommufd_;
  std::uint32_t ioas_id_;
  std::map<GroupId, ClaimedGroup> claimed_;
};

} // namespace vfio_shim
