// SPDX-License-Identifier: MIT
/// @file
/// Where a container's mappings really go.
#pragma once

#include "vfio_shim/client.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/file_store.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim {

/// What can be mapped with the groups that are attached now.
struct AddressSpace {
  std::vector<IovaRange> usable; ///< Ordered, disjoint: reserved regions are left out.
  std::uint64_t page_sizes = 0;  ///< A bit per page size of the IOMMU; none below the CPU's.
  bool coherent = false;         ///< The IOMMU enforces cache coherency (VFIO_DMA_CC_IOMMU).

  /// The smallest page size: everything mapped is aligned to it.
  Bytes page_size() const { return Bytes{page_sizes & (~page_sizes + 1)}; }
};

/// One stretch of client memory to be made reachable for the attached devices.
struct MapRequest {
  Iova iova;
  ClientAddr vaddr;
  Bytes size;
  Access access;
};

/// What becomes of dirty pages once they have been reported.
enum class AfterReport : std::uint8_t {
  clean, ///< The next report has what is written to from now on.
  keep   ///< They stay dirty, which is cheaper: for a range that is unmapped next.
};

/// All that a backend holds, for another process to take over. Numbers of kept files are 0 where
/// there is none.
struct BackendState {
  /// A device that is bound, or may be.
  struct Device {
    static constexpr std::size_t bar_count = 6;

    std::string name;
    std::uint32_t devid = 0;    ///< Its object.
    bool attached = false;      ///< To the group's domain.
    FileStore::Number file = 0; ///< Its cdev, unless the client has it.
    /// Its BARs, once they are exported, and the cdev by which they are known.
    std::array<FileStore::Number, bar_count> bars{};
    std::uint64_t filesystem = 0;
    std::uint64_t inode = 0;

    friend bool operator==(const Device &, const Device &) = default;
  };
  /// A claimed group.
  struct Group {
    GroupId id;
    FileStore::Number file = 0; ///< The kernel's own group.
    std::uint32_t domain = 0;   ///< The HWPT; 0: none yet.
    bool tracks_dirty = false;  ///< It can note which pages are written to.
    std::vector<Device> devices{};

    friend bool operator==(const Group &, const Group &) = default;
  };

  FileStore::Number file = 0; ///< The iommufd, or the kernel's own container.
  std::uint32_t ioas = 0;
  std::vector<Group> groups{};

  friend bool operator==(const BackendState &, const BackendState &) = default;
};

/// One address space of an IOMMU API, with the groups behind it.
///
/// Knows nothing of type1's rules: callers have checked them. Not thread-safe. The destructor
/// detaches every group and unmaps everything.
class Backend {
public:
  Backend() = default;
  Backend(const Backend &) = delete;
  Backend &operator=(const Backend &) = delete;
  virtual ~Backend() = default;

  /// All of @p window is to stay usable: what cannot translate it is not attached. To be said
  /// before any group is claimed. A backend that cannot see to that leaves it to those who ask for
  /// address_space().
  virtual Result<void> keep_usable(IovaRange /*window*/) { return {}; }

  /// Takes DMA ownership of the group. @return EPERM if somebody else has it.
  virtual Result<void> claim(const topology::Group &group) = 0;

  /// Puts every claimed group behind the address space, so that what is mapped is pinned.
  ///
  /// To be repeated before memory is mapped: a device that its client has closed took its
  /// attachment with it. @return EINVAL if reserved regions collide with what is mapped, or is to
  /// stay usable.
  virtual Result<void> attach_claimed() = 0;

  /// Lets go of those devices of the claimed group that @p present has no more, so that they can be
  /// unbound from their driver. DMA ownership stays if another device can carry it.
  virtual void follow(const topology::Group &present) = 0;

  /// Detaches the group and gives DMA ownership up. Devices still open at the client are not
  /// touched.
  virtual void release(GroupId group) = 0;

  /// Whether no device of the claimed group is open at the client. Only the kernel is asked: what
  /// others could pretend counts for nothing. After a yes the group must be released: finding out
  /// may have taken it from the address space.
  virtual bool may_release(GroupId group) { return open_devices(group).empty(); }

  /// What can be mapped now. Needs an attached group.
  virtual Result<AddressSpace> address_space() = 0;

  /// Maps and pins. All or nothing. @return EFAULT, ENOMEM as pinning fails; EBUSY, ESRCH as
  ///         Client::ioctl_in_client().
  virtual Result<void> map(Client &client, const MapRequest &request) = 0;

  /// Unmaps whatever lies in the range; no mapping may be cut by it.
  virtual Result<void> unmap(IovaRange range) = 0;

  /// The file by which a client can map and unmap here by itself, with the kernel's own legacy
  /// calls, for an IOMMU of that type. Nothing may be mapped yet.
  /// @return EOPNOTSUPP: there is none.
  virtual Result<Fd> file_for_client(std::uint64_t /*iommu_type*/) {
    return fail(EOPNOTSUPP, "a backend that a client cannot map in by itself");
  }
  /// From now on the client may have that file; or has not got it. While it may, map() does not
  /// lend memory to the backend for longer than the call.
  virtual void share_with_client(bool /*shared*/) {}
  /// Carries VFIO_IOMMU_UNMAP_DMA out as the kernel's own call does on that file.
  /// @return What was unmapped.
  virtual Result<Bytes> unmap_as_client(std::uint32_t /*flags*/, Iova /*iova*/, Bytes /*size*/) {
    return fail(EOPNOTSUPP, "a backend that a client cannot map in by itself");
  }

  /// Has the IOMMUs note which pages devices write to, from now on; or no longer.
  virtual Result<void> track_dirty(bool on) = 0;

  /// Sets a bit in @p bitmap for each page of @p range that a device may have written to since the
  /// last report, or since tracking began: for all of them if some IOMMU cannot tell.
  ///
  /// @param range Whole pages, all of them mapped. The first one has bit 0.
  /// @param bitmap Large enough for the range. Other bits are left as they are.
  virtual Result<void> report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                                    std::span<std::uint64_t> bitmap) = 0;

  /// Opens a device of a claimed group for the client. The file stays open here too, until
  /// given_away().
  /// @return EBUSY: the client side has it open already.
  virtual Result<Fd> open_device(GroupId group, const topology::Device &device) = 0;

  /// The client now holds the device's file: the backend lets go of its own.
  virtual void given_away(GroupId group, std::string_view name) = 0;

  /// The names of the group's devices that are open at the client, or may be: for the records.
  virtual std::vector<std::string> open_devices(GroupId group) = 0;

  /// The number of changes so far to what describe() tells.
  std::uint64_t changes() const { return changes_; }
  /// Tells what another process needs to take this address space over; see BackendAdopter.
  virtual BackendState describe() const { return {}; }

protected:
  void note_change() { ++changes_; }

private:
  std::uint64_t changes_ = 0;
};

/// Makes the backend of a new container.
using BackendFactory = std::function<Result<std::unique_ptr<Backend>>()>;

/// Makes the backend of a container whose file is an iommufd of the client's.
using BackendMaker = std::function<Result<std::unique_ptr<Backend>>(Fd iommufd)>;

/// A container's knowledge of a backend that is to be taken over.
struct BackendTerms {
  std::optional<IovaRange> window; ///< As given to Backend::keep_usable().
  bool attached = false;           ///< attach_claimed() has succeeded before.
  bool tracking_dirty = false;
  /// See Backend::share_with_client(). Then nothing is asked of the kernel: the client could keep
  /// us waiting.
  bool shared = false;
};

/// Takes over what a process that has died has held. What it was about to do and had not told is
/// undone.
using BackendAdopter = std::function<Result<std::unique_ptr<Backend>>(const BackendState &state,
                                                                      const BackendTerms &terms)>;

} // namespace vfio_shim
