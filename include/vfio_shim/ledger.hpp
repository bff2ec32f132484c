// SPDX-License-Identifier: MIT
/// @file
/// What is written down about containers, groups, devices and mappings as they come and go.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace vfio_shim {

/// A mapping as the ledger remembers it.
struct MappingEntry {
  Iova iova;
  ClientAddr vaddr;
  Bytes size;
  Access access;
};

/// The live record of every container, group, device and mapping.
///
/// The shim keeps it in shared memory; a program that embeds libvfio_compat may not care: the
/// methods do nothing unless overridden. Called with the container's or group's lock held, from any
/// thread; must not block.
///
/// What is served is recorded: what the ledger has no room for is refused.
class Ledger {
public:
  /// A record's number. 0 as an answer: there is no room, and nothing was recorded.
  using Record = std::uint32_t;

  Ledger() = default;
  Ledger(const Ledger &) = delete;
  Ledger &operator=(const Ledger &) = delete;
  virtual ~Ledger() = default;

  /// The number of the next open file. No other gets it, unless the ledger keeps nothing anyway.
  virtual FileNumber next_file() { return FileNumber{1}; }

  virtual Record container_opened(FileNumber /*file*/, Pid /*client*/) { return nowhere; }
  /// The type is VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, or 0 once all groups have left.
  virtual void iommu_set(Record /*container*/, std::uint32_t /*type*/) {}
  /// Between the START and the STOP of VFIO_IOMMU_DIRTY_PAGES.
  virtual void dirty_tracked(Record /*container*/, bool /*on*/) {}
  /// The client is about to map by itself; or does not any more.
  virtual void express(Record /*container*/, bool /*on*/) {}
  /// Calls on the file of a container without groups are for another one.
  virtual void stands_for(Record /*container*/, Record /*other*/) {}
  /// What its backend holds has changed. A group's part is group_backed().
  virtual void container_backed(Record /*container*/, FileStore::Number /*file*/,
                                std::uint32_t /*ioas*/) {}
  /// Its file is closed. A group keeps it.
  virtual void container_closed(Record /*container*/) {}
  virtual void container_gone(Record /*container*/) {}

  virtual Record group_opened(FileNumber /*file*/, GroupId /*group*/, Pid /*client*/) {
    return nowhere;
  }
  /// The container is the one joined, or 0: the group is in none now.
  virtual void group_moved(Record /*group*/, Record /*container*/) {}
  virtual void group_backed(Record /*group*/, const BackendState::Group & /*state*/) {}
  /// Its file is closed, or it was unplugged. It is about to leave its container.
  virtual void group_closed(Record /*group*/) {}
  virtual void group_gone(Record /*group*/) {}

  /// The device's file is about to be given to the client.
  virtual Record device_opened(Record /*group*/, std::string_view /*name*/) { return nowhere; }
  /// A process has it open under that number.
  virtual void device_given(Record /*device*/, Pid /*process*/, ClientFd /*number*/) {}
  virtual void device_gone(Record /*device*/) {}

  virtual Record mapped(Record /*container*/, const MappingEntry & /*entry*/) { return nowhere; }
  /// The vaddr is the mapping's new one, or none: the last one is invalid, and it waits for
  /// another.
  virtual void vaddr_changed(Record /*container*/, Record /*mapping*/,
                             std::optional<ClientAddr> /*vaddr*/) {}
  /// The mapping is to be reported as dirty as a whole once more, or no longer.
  virtual void all_dirty(Record /*mapping*/, bool /*yes*/) {}
  virtual void unmapped(Record /*container*/, Record /*mapping*/) {}

private:
  /// The record of everything, in a ledger that keeps nothing.
  static constexpr Record nowhere = 1;
};

} // namespace vfio_shim
