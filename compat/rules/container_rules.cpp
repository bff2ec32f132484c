// SPDX-License-Identifier: MIT
#include "rules/container_rules.hpp"

#include "abi/vfio.hpp"
#include "rules/capability_chain.hpp"
#include "rules/dirty_bitmap.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

namespace vfio_shim::rules {

namespace {

Result<MappingTable::Run> find_range(const UnmapDma &call, AddressSpaceState &iommu) {
  if (call.all()) {
    if (call.iova != Iova{} || call.size != Bytes{})
      return fail(EINVAL, "unmap all with a range");
    return iommu.mappings.all();
  }
  return iommu.mappings.find_unmap(call.iova, call.size, iommu.space.page_size(), iommu.version);
}

Result<void> check_bitmap(const UnmapDma &call) {
  if (!call.bitmap)
    return fail(EINVAL, "a bitmap goes with no other flag");
  return check_dirty_bitmap(*call.bitmap, call.size);
}

Result<void> check_tracking(const UnmapDma &call, const AddressSpaceState &iommu) {
  if (!iommu.tracking_dirty || call.bitmap->page_size != iommu.space.page_size())
    return fail(EINVAL, "not tracking, or not in the IOMMU's smallest page size");
  return {};
}

Result<MappingTable::Run> find_with_bitmap(const UnmapDma &call, AddressSpaceState &iommu) {
  VFIO_SHIM_TRY(check_bitmap(call));
  auto run = find_range(call, iommu);
  if (run)
    VFIO_SHIM_TRY(check_tracking(call, iommu));
  return run;
}

} // namespace

Result<void> check_operation(const Operation *operation, const AddressSpaceState *iommu) {
  if (operation != nullptr && operation->target == Target::container)
    return {};
  if (iommu == nullptr)
    return fail(EINVAL, "needs VFIO_SET_IOMMU");
  if (operation == nullptr || operation->target != Target::iommu)
    return fail(ENOTTY, "unknown ioctl");
  if (operation->command == VFIO_IOMMU_DIRTY_PAGES && iommu->version == Version::v1)
    return fail(EACCES, "dirty tracking is for TYPE1v2");
  return {};
}

long answer_to(const CheckExtension &call, const AddressSpaceState *iommu) {
  switch (call.extension) {
  case VFIO_TYPE1_IOMMU:
  case VFIO_TYPE1v2_IOMMU:
  case VFIO_UNMAP_ALL:
    return 1;
  case VFIO_DMA_CC_IOMMU:
    return iommu != nullptr && iommu->space.coherent ? 1 : 0;
  case VFIO_UPDATE_VADDR:
    return iommu != nullptr && !iommu->express ? 1 : 0;
  default:
    return 0;
  }
}

Version version_of(std::uint64_t type) {
  return type == VFIO_TYPE1_IOMMU ? Version::v1 : Version::v2;
}

/// The kernel offers the number to every IOMMU driver as an extension first (ENODEV if none has
/// it), and only then as a type.
Result<Version> check_set_iommu(const SetIommu &call, bool any_group, bool iommu_set) {
  if (!any_group || iommu_set)
    return fail(EINVAL, iommu_set ? "IOMMU already set" : "no group yet");
  switch (call.type) {
  case VFIO_TYPE1_IOMMU:
  case VFIO_TYPE1v2_IOMMU:
    return version_of(call.type);
  case VFIO_UNMAP_ALL:
    return fail(EINVAL, "an extension, not an IOMMU type");
  default:
    return fail(ENODEV, fmt::format("no IOMMU type {}", call.type));
  }
}

InfoAnswer answer_to(const GetInfo &call, const AddressSpaceState &iommu) {
  constexpr std::size_t size = sizeof(vfio_iommu_type1_info);
  GetInfo info{.argsz = call.argsz,
               .flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
               .page_sizes = iommu.space.page_sizes};
  InfoAnswer answer{.head = {},
                    .chain = build_capability_chain(iommu.space, iommu.mappings.available(), size),
                    .chain_offset = Bytes{size}};
  if (call.argsz < size + answer.chain.size()) {
    info.argsz = static_cast<std::uint32_t>(size + answer.chain.size());
    answer.chain.clear();
  } else {
    info.capability_offset = size;
  }
  answer.head = encode(info);
  answer.head.resize(std::min<std::size_t>(call.argsz, size));
  return answer;
}

Result<void> check_map(const MapDma &call, const AddressSpaceState &iommu) {
  if (call.unknown_flags() != 0)
    return fail(EINVAL, "unknown flags");
  VFIO_SHIM_TRY(iommu.mappings.check_map(call.request(), iommu.space));
  if (iommu.tracking_dirty && !trackable(call.size, iommu.space.page_size()))
    return fail(EINVAL, "too large for dirty tracking");
  return {};
}

Result<MappingTable::Mappings::iterator> find_without_vaddr(const MapDma &call,
                                                            AddressSpaceState &iommu) {
  if (call.unknown_flags() != 0)
    return fail(EINVAL, "unknown flags");
  return iommu.mappings.find_without_vaddr(call.request(), iommu.space.page_size());
}

Result<MappingTable::Run> find_unmap(const UnmapDma &call, AddressSpaceState &iommu) {
  if (call.unknown_flags() != 0)
    return fail(EINVAL, "unknown flags");
  if (call.gets_bitmap())
    return find_with_bitmap(call, iommu);
  auto run = find_range(call, iommu);
  if (run && call.vaddr_only() && std::any_of(run->begin, run->end, [](const auto &entry) {
        return !entry.second.vaddr_valid;
      }))
    return fail(EINVAL, "a vaddr is invalid already");
  return run;
}

Result<IovaRange> check_unmap_and_report(const UnmapDma &call, const AddressSpaceState &iommu) {
  VFIO_SHIM_TRY(check_bitmap(call));
  VFIO_SHIM_TRY(check_tracking(call, iommu));
  return check_report({.iova = call.iova, .size = call.size, .bitmap = *call.bitmap}, iommu);
}

Result<void> check_flags(const DirtyPages &call) {
  switch (call.flags) {
  case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
  case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
  case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
    return {};
  default:
    return fail(EINVAL, "not exactly one known flag");
  }
}

Result<void> check_start_of_tracking(AddressSpaceState &iommu) {
  const auto run = iommu.mappings.all();
  if (!std::all_of(run.begin, run.end, [&](const auto &entry) {
        return trackable(entry.second.size, iommu.space.page_size());
      }))
    return fail(EINVAL, "a mapping is too large to be tracked");
  return {};
}

Result<IovaRange> check_report(const DirtyPages::Range &range, const AddressSpaceState &iommu) {
  const std::uint64_t first = range.iova.value;
  const std::uint64_t size = range.size.value;
  if (size == 0)
    return fail(EINVAL, "size 0");
  const std::uint64_t last = first + (size - 1);
  if (last < first)
    return fail(EOVERFLOW, "range past the end of the address space");
  VFIO_SHIM_TRY(check_dirty_bitmap(range.bitmap, range.size));
  const Bytes page_size = iommu.space.page_size();
  if (range.bitmap.page_size != page_size)
    return fail(EINVAL, "not the IOMMU's smallest page size");
  if (((first | size) & (page_size.value - 1)) != 0)
    return fail(EINVAL, "not aligned to the IOMMU's page size");
  if (!iommu.tracking_dirty)
    return fail(EINVAL, "not tracking");
  return IovaRange{range.iova, Iova{last}};
}

Result<MappingTable::Run> find_report(const DirtyPages::Range &range, AddressSpaceState &iommu) {
  const auto iovas = check_report(range, iommu);
  if (!iovas)
    return pass_on(iovas);
  return iommu.mappings.find_whole(*iovas);
}

} // namespace vfio_shim::rules
