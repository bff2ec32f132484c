// SPDX-License-Identifier: MIT
#include "backend/domain.hpp"

#include "abi/iommufd.hpp"
#include "backend/ioas.hpp"
#include "backend/ioctl.hpp"

#include <algorithm>

#include "bitmap.hpp"

namespace vfio_shim {

namespace {

/// The abilities of a device and its IOMMU; none, if the IOMMU's driver tells nothing of itself.
Result<abi::IommuHwInfo> abilities(const Fd &iommufd, std::uint32_t devid) {
  abi::IommuHwInfo info{.dev_id = devid};
  const auto asked = run_ioctl(iommufd, abi::iommu_get_hw_info, &info, "IOMMU_GET_HW_INFO");
  if (!asked && asked.error().code != EOPNOTSUPP)
    return pass_on(asked);
  return asked ? info : abi::IommuHwInfo{};
}

/// Allocates an HWPT that can do as much as possible.
/// @param tracks To be able to track dirty pages. @param pasids The device has PASIDs: only then
/// may
///        a client attach these to the same address space.
Result<std::uint32_t> allocate(const Fd &iommufd, abi::IommuHwptAlloc alloc, bool tracks,
                               bool pasids) {
  alloc.flags =
      (tracks ? abi::hwpt_alloc_dirty_tracking : 0U) | (pasids ? abi::hwpt_alloc_pasid : 0U);
  const auto done = run_ioctl(iommufd, abi::iommu_hwpt_alloc, &alloc, "IOMMU_HWPT_ALLOC");
  if (done)
    return alloc.out_hwpt_id;
  if (pasids && done.error().code == EOPNOTSUPP) // Not both, or not by this driver.
    return allocate(iommufd, alloc, tracks, false);
  return pass_on(done);
}

} // namespace

Result<std::unique_ptr<Domain>> Domain::make(const Fd &iommufd, std::uint32_t ioas_id,
                                             std::uint32_t devid) {
  const auto info = abilities(iommufd, devid);
  if (!info)
    return pass_on(info);
  const bool tracks = (info->out_capabilities & abi::hw_cap_dirty_tracking) != 0;
  const auto id =
      allocate(iommufd, {.dev_id = devid, .pt_id = ioas_id}, tracks, info->out_max_pasid_log2 != 0);
  if (!id)
    return pass_on(id);
  return std::unique_ptr<Domain>(new Domain(iommufd, *id, tracks));
}

Domain::~Domain() {
  destroy_object(iommufd_, id_);
}

Result<void> Domain::track_dirty(bool on) {
  abi::IommuHwptSetDirtyTracking set{.flags = on ? abi::hwpt_dirty_tracking_enable : 0,
                                     .hwpt_id = id_};
  return run_ioctl(iommufd_, abi::iommu_hwpt_set_dirty_tracking, &set,
                   "IOMMU_HWPT_SET_DIRTY_TRACKING");
}

Result<void> Domain::report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                                  std::span<std::uint64_t> bitmap) {
  abi::IommuHwptGetDirtyBitmap get{
      .hwpt_id = id_,
      .flags = after == AfterReport::keep ? abi::hwpt_get_dirty_bitmap_no_clear : 0,
      .iova = range.first.value,
      .length = range.last.value - range.first.value + 1,
      .page_size = page_size.value,
      .data = reinterpret_cast<std::uintptr_t>(bitmap.data())};
  return run_ioctl(iommufd_, abi::iommu_hwpt_get_dirty_bitmap, &get, "IOMMU_HWPT_GET_DIRTY_BITMAP");
}

Result<void> track_dirty(const Domains &domains, bool on) {
  for (const auto &domain : domains) {
    if (!domain->can_track_dirty())
      continue;
    auto done = domain->track_dirty(on);
    if (done)
      continue;
    if (on)
      (void)track_dirty(domains, false); // The error that counts is the first.
    return done;
  }
  return {};
}

Result<void> report_dirty(const Domains &domains, IovaRange range, Bytes page_size,
                          AfterReport after, std::span<std::uint64_t> bitmap) {
  if (!std::ranges::all_of(domains, [](const auto &domain) { return domain->can_track_dirty(); })) {
    set_first_bits(bitmap, (range.last.value - range.first.value) / page_size.value + 1);
    return {};
  }
  for (const auto &domain : domains)
    VFIO_SHIM_TRY(domain->report_dirty(range, page_size, after, bitmap));
  return {};
}

} // namespace vfio_shim
