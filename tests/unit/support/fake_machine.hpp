// SPDX-License-Identifier: MIT
/// @file
/// Groups, devices and an IOMMU that exist only in the test, and the backends on them.
#pragma once

#include "vfio_shim/backend.hpp"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fake_sysfs.hpp"

namespace vfio_shim::test {

class FakeBackend;

/// What the kernel and the IOMMU would be. Outlives its backends.
///
/// The backends fail the running test if they are used against Backend's contract: a map that
/// overlaps, an unmap that cuts a mapping in two, memory mapped while a group is not attached.
class FakeMachine {
public:
  /// All that the IOMMU translates.
  static constexpr IovaRange whole{Iova{0}, Iova{(1ULL << 48) - 1}};
  /// Where x86 delivers MSIs: every group reserves it.
  static constexpr IovaRange msi{Iova{0xfee00000}, Iova{0xfeefffff}};

  FakeSysfs sysfs;
  std::uint64_t page_sizes = (1ULL << 12) | (1ULL << 21) | (1ULL << 30);
  bool coherent = true;
  bool can_track_dirty = false;
  /// Called in the midst of a map.
  std::function<void()> while_mapping;

  /// A group of devices bound to vfio-pci; @p reserved is unusable in addition to msi.
  void add_group(GroupId id, const std::vector<std::string> &devices,
                 std::vector<IovaRange> reserved = {});

  BackendFactory factory();

  /// The next call of the backends' method @p name fails with errno @p code; "create" is the
  /// factory.
  void fail_next(const std::string &name, int code) { failures_[name] = code; }

  /// The client closes its file of the device, and tells nobody.
  void close_at_client(const std::string &device);

  /// A device writes to the page at @p iova: noted where an IOMMU tracks.
  void write_page(Iova iova);

  /// What was done, in order: "claim 1", "attach 1", "map [0x1000, 0x1fff]", "release 1", "end"…
  std::vector<std::string> log;

  std::size_t backends_alive() const { return backends_.size(); }
  /// Every live mapping of every backend.
  std::vector<IovaRange> mapped() const;
  bool claimed(GroupId id) const { return owners_.contains(id); }

private:
  friend class FakeBackend;

  Result<void> failure(const std::string &name);

  std::map<GroupId, std::vector<IovaRange>> reserved_;
  std::map<GroupId, FakeBackend *> owners_;
  std::set<FakeBackend *> backends_;
  std::map<std::string, int> failures_;
  int cdevs_ = 0;
};

/// Behaves as IommufdBackend does.
class FakeBackend final : public Backend {
public:
  explicit FakeBackend(FakeMachine &machine);
  ~FakeBackend() override;

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

private:
  friend class FakeMachine;

  struct Claimed {
    bool attached = false;
    std::set<std::string, std::less<>> at_client; ///< Devices that the client has open.
  };

  bool everything_attached() const;
  bool collides(GroupId group) const;

  FakeMachine &machine_;
  std::map<GroupId, Claimed> claimed_;
  std::map<Iova, Iova> mapped_; ///< First IOVA to last.
  bool tracking_dirty_ = false;
  std::set<Iova> dirty_; ///< Pages.
};

} // namespace vfio_shim::test
