// SPDX-License-Identifier: MIT
/// @file
/// A backend on the IOMMU that iommufd brings for its own tests (CONFIG_IOMMUFD_TEST): it tracks
/// what devices write to, which no emulated IOMMU does.
#pragma once

#include "backend/domain.hpp"
#include "backend/ioas.hpp"

#include "vfio_shim/backend.hpp"

#include <map>
#include <span>

namespace vfio_shim::test {

/// Each of its groups is one mock device in a domain of its own. Maps memory by address.
class MockBackend final : public Backend {
public:
  /// Where a group's IOMMU does not track; that of every other one does.
  static constexpr GroupId untracked_group{99};
  /// Where the device has PASIDs; no other one has.
  static constexpr GroupId pasid_group{98};
  /// All that mock IOMMUs translate begins here.
  static constexpr Iova aperture{1U << 24};

  static Result<std::unique_ptr<MockBackend>> create();

  ~MockBackend() override;

  /// The group's device writes to the first page of each of @p iovas.
  void write(GroupId group, std::span<const Iova> iovas);

  /// Attaches a PASID of the group's device to the group's domain, and detaches it again.
  Result<void> attach_pasid(GroupId group, std::uint32_t pasid);

  Result<void> claim(const topology::Group &group) override;
  Result<void> attach_claimed() override { return {}; }
  void follow(const topology::Group & /*present*/) override {}
  void release(GroupId group) override;
  Result<AddressSpace> address_space() override;
  Result<void> map(Client &client, const MapRequest &request) override;
  Result<void> unmap(IovaRange range) override;
  Result<void> track_dirty(bool on) override;
  Result<void> report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                            std::span<std::uint64_t> bitmap) override;
  Result<Fd> open_device(GroupId group, const topology::Device &device) override;
  void given_away(GroupId /*group*/, std::string_view /*name*/) override {}
  std::vector<std::string> open_devices(GroupId /*group*/) override { return {}; }

private:
  struct Device {
    std::uint32_t object = 0;
    std::shared_ptr<Domain> domain;
  };

  explicit MockBackend(Fd iommufd) : iommufd_(std::move(iommufd)) {}
  Domains domains() const;

  Fd iommufd_;
  std::unique_ptr<Ioas> ioas_;
  std::map<GroupId, Device> devices_;
};

} // namespace vfio_shim::test
