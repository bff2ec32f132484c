/// @file
/// A container: what an open file of /dev/vfio/vfio is.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/client.hpp"
#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim {

namespace type1 {
struct AddressSpaceState;
}

/// type1's dma_entry_limit, unless it is told otherwise.
inline constexpr std::uint32_t default_mapping_limit = 65535;

/// What a container needs from the program that creates it.
struct ContainerOptions {
  BackendFactory make_backend;
  Ledger *ledger = nullptr; ///< Outlives the container. nullptr: nothing is recorded.
  /// Mappings per container.
  std::uint32_t mapping_limit = default_mapping_limit;
  /// All that may be mapped, and all of it: a group that cannot use it as a whole is not attached.
  std::optional<IovaRange> iova_window{};
};

/// One address space and the groups that share it, by type1's rules.
///
/// Lives as long as its file or one of its groups. The first group gives it a backend,
/// VFIO_SET_IOMMU an address space; when the last group leaves, everything mapped goes and it is as
/// new. Thread-safe.
class Container {
public:
  Container(ContainerOptions options, Pid client);
  Container(const Container &) = delete;
  Container &operator=(const Container &) = delete;
  ~Container();

  /// Serves an ioctl on the container.
  /// @param argument The ioctl's third argument, as the client gave it.
  /// @return The ioctl's result. EINVAL: unknown before VFIO_SET_IOMMU. ENOTTY: unknown after it.
  ///         Otherwise what type1 answers: drivers/vfio/container.c, vfio_iommu_type1.c.
  Result<long> call(Client &client, unsigned int command, std::uint64_t argument);

  /// "VFIO_..." for an ioctl that call() knows, "" for any other.
  static std::string_view call_name(unsigned int command);

  /// Takes the group in: claims its DMA and, once an IOMMU is set, attaches it.
  /// @return EPERM: the group is not viable. EINVAL: reserved regions collide with mappings or with
  ///         ContainerOptions::iova_window. EBUSY: a mapping's vaddr is invalid
  ///         (VFIO_DMA_UNMAP_FLAG_VADDR).
  Result<void> join(const topology::Group &group, Ledger::Record group_record);

  /// Lets the group go. The last one takes the address space with it.
  void leave(GroupId group, Ledger::Record group_record);

  /// Lets the group go as soon as no device of it is open: looked at before each call and join,
  /// because nobody tells when a device is closed.
  void leave_when_unused(GroupId group, Ledger::Record group_record);

  /// See Backend::follow().
  void follow(const topology::Group &present);

  /// Whether a call is being served, for which the other methods would wait.
  bool busy();

  /// Opens a device of a group that has joined. See Backend::open_device(). EINVAL: no IOMMU set.
  Result<Fd> open_device(GroupId group, const topology::Device &device);
  /// See Backend::given_away().
  void given_away(GroupId group, std::string_view name);
  /// See Backend::open_devices().
  std::vector<std::string> open_devices(GroupId group);

private:
  friend struct ContainerCalls; // The handlers behind call(), in compat/type1/.

  void let_go(GroupId group, Ledger::Record group_record);
  void let_unused_go();
  Result<void> make_backend_if_none();
  Result<void> may_attach() const;
  Result<void> refresh_address_space();
  void end_address_space();

  ContainerOptions options_;
  Ledger silent_ledger_;
  Ledger &ledger_;
  Ledger::Record record_;
  std::mutex mutex_; ///< Guards everything below.
  std::set<GroupId> groups_;
  std::map<GroupId, Ledger::Record> leaving_;       ///< Those of them that wait for their devices.
  std::unique_ptr<Backend> backend_;                ///< While groups_ is not empty.
  std::unique_ptr<type1::AddressSpaceState> iommu_; ///< From VFIO_SET_IOMMU on.
};

} // namespace vfio_shim
