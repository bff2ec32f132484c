// SPDX-License-Identifier: MIT
/// @file
/// type1's answers to calls on a container: pure functions of the container's state and the call.
/// Source of the rules: drivers/vfio/container.c and drivers/vfio/vfio_iommu_type1.c.
#pragma once

#include "rules/address_space_state.hpp"
#include "rules/legacy_call.hpp"
#include "rules/operations.hpp"

#include "vfio_shim/result.hpp"

#include <cstddef>
#include <vector>

namespace vfio_shim::rules {

/// Judges a call by its number alone: the container answers so before it looks at the argument.
/// @param operation nullptr: the ioctl is unknown.
/// @param iommu nullptr: none is set.
/// @return EINVAL: there is no IOMMU. ENOTTY: unknown. EACCES: dirty tracking with TYPE1.
Result<void> check_operation(const Operation *operation, const AddressSpaceState *iommu);

/// @param iommu nullptr: none is set.
long answer_to(const CheckExtension &call, const AddressSpaceState *iommu);

/// The version that is to be set.
/// @return EINVAL: no group yet, an IOMMU already, or no type at all. ENODEV: no such type.
Result<Version> check_set_iommu(const SetIommu &call, bool any_group, bool iommu_set);

/// The version of an IOMMU type that was set.
Version version_of(std::uint64_t type);

/// The answer to VFIO_IOMMU_GET_INFO, to be written to where its argument is.
struct InfoAnswer {
  std::vector<std::byte> head;
  std::vector<std::byte> chain; ///< Empty: the client has no room for it.
  Bytes chain_offset;           ///< Where it goes, from the argument's start.
};
InfoAnswer answer_to(const GetInfo &call, const AddressSpaceState &iommu);

/// Checks that the memory may be mapped. Not for a call with vaddr_only().
/// @return EINVAL: unknown flags, too large for dirty tracking. As MappingTable::check_map().
Result<void> check_map(const MapDma &call, const AddressSpaceState &iommu);

/// The mapping that a call with vaddr_only() is about.
/// @return EINVAL: unknown flags. As MappingTable::find_without_vaddr().
Result<MappingTable::Mappings::iterator> find_without_vaddr(const MapDma &call,
                                                            AddressSpaceState &iommu);

/// The mappings that are to be unmapped, or to lose their vaddr.
/// @return EINVAL: flags that are unknown or do not go together; all with a range; a vaddr that is
///         invalid already; a bitmap of the wrong size, or while nothing is tracked. As
///         MappingTable::find_unmap().
Result<MappingTable::Run> find_unmap(const UnmapDma &call, AddressSpaceState &iommu);

/// The IOVAs that are to be reported on and unmapped where nobody knows the mappings.
/// @return As find_unmap() and check_report().
Result<IovaRange> check_unmap_and_report(const UnmapDma &call, const AddressSpaceState &iommu);

/// @return EINVAL: not exactly one known flag.
Result<void> check_flags(const DirtyPages &call);

/// @return EINVAL: a mapping is too large to be tracked.
Result<void> check_start_of_tracking(AddressSpaceState &iommu);

/// The IOVAs to report on.
/// @return EINVAL: size 0, misaligned, not tracking, a bitmap that does not fit. EOVERFLOW: past
///         the end of the address space.
Result<IovaRange> check_report(const DirtyPages::Range &range, const AddressSpaceState &iommu);

/// The mappings to report on.
/// @return EINVAL: a mapping that would be cut in two. As check_report().
Result<MappingTable::Run> find_report(const DirtyPages::Range &range, AddressSpaceState &iommu);

} // namespace vfio_shim::rules
