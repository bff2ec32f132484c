// SPDX-License-Identifier: MIT
/// @file
/// Containers, groups, devices and mappings as plain values: what one process writes down, and
/// another one goes on with.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/ledger.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace vfio_shim {

/// A mapping.
struct MappingState {
  Ledger::Record record = 0;
  MappingEntry entry;
  bool all_dirty = false;
  bool vaddr_valid = true;
};

/// An open container, or one that its groups keep.
struct ContainerState {
  Ledger::Record record = 0;
  FileNumber file;
  std::uint64_t opening = 0;    ///< The message that opened it; 0: just begun.
  Pid client;                   ///< Who opened it,
  std::uint32_t user = 0;       ///< and for whom.
  bool closed = false;          ///< Its file is.
  std::uint32_t iommu_type = 0; ///< VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, or 0.
  bool tracking_dirty = false;
  bool express = false;  ///< The client maps by itself.
  FileNumber stands_for; ///< The container that calls on its file are for; 0: itself.
  BackendState backend;  ///< Without a file: it has none.
  std::vector<MappingState> mappings;
};

/// A process that has a device open.
struct HolderState {
  Pid process;
  ClientFd number;
};

/// A device that was given to a client.
struct DeviceState {
  Ledger::Record record = 0;
  std::string name;
  std::vector<HolderState> holders;
};

/// An open group, or one that its devices keep.
struct GroupState {
  Ledger::Record record = 0;
  FileNumber file;
  std::uint64_t opening = 0; ///< As ContainerState::opening.
  GroupId id;
  Pid client;
  bool closed = false;
  FileNumber container; ///< The one it is in; 0: none.
  std::vector<DeviceState> devices;
};

} // namespace vfio_shim
