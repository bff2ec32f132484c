// SPDX-License-Identifier: MIT
/// @file
/// The kernel's VFIO ABI: the legacy part from the system's header, and what is newer than the
/// headers of the oldest distribution we build on (Linux 6.1).
#pragma once

#include <cstddef>
#include <cstdint>

#include <linux/vfio.h>

namespace vfio_shim::abi {

// Source: include/uapi/linux/vfio.h, "VFIO_DEVICE_BIND_IOMMUFD" and following.
inline constexpr unsigned long device_bind_iommufd = _IO(VFIO_TYPE, VFIO_BASE + 18);
inline constexpr unsigned long device_attach_iommufd_pt = _IO(VFIO_TYPE, VFIO_BASE + 19);
inline constexpr unsigned long device_detach_iommufd_pt = _IO(VFIO_TYPE, VFIO_BASE + 20);

/// Argument of device_bind_iommufd: gives a device cdev to an iommufd.
struct DeviceBindIommufd {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::int32_t iommufd;
  std::uint32_t out_devid; ///< The device's object id in that iommufd.
};
static_assert(sizeof(DeviceBindIommufd) == 16);

/// Argument of device_attach_iommufd_pt: puts a bound device behind an IOAS or HWPT.
struct DeviceAttachIommufdPt {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t pt_id; ///< In: IOAS or HWPT id. Out: the HWPT in use.
};
static_assert(sizeof(DeviceAttachIommufdPt) == 12);

/// Argument of device_detach_iommufd_pt.
struct DeviceDetachIommufdPt {
  std::uint32_t argsz;
  std::uint32_t flags;
};
static_assert(sizeof(DeviceDetachIommufdPt) == 8);

// Source: include/uapi/linux/vfio.h, "VFIO_DEVICE_FEATURE_DMA_BUF". Linux 6.19.
inline constexpr std::uint32_t feature_dma_buf = 11;

/// Argument of VFIO_DEVICE_FEATURE that exports one stretch of a region; answers the dma-buf's fd.
struct FeatureDmaBuf {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t region_index;
  std::uint32_t open_flags;
  std::uint32_t dma_buf_flags;
  std::uint32_t nr_ranges;
  std::uint64_t offset; ///< Of the only range.
  std::uint64_t length;
};
static_assert(sizeof(FeatureDmaBuf) == sizeof(vfio_device_feature) + 32);

/// Where in a PCI device's file its regions are. Not part of the ABI as promised, but as built into
/// every client that was ever compiled against the offsets it was told.
inline constexpr unsigned int region_shift = 40;

// What the legacy ABI promises; our decoding depends on it.
static_assert(sizeof(vfio_group_status) == 8);
static_assert(sizeof(vfio_iommu_type1_info) == 24);
static_assert(offsetof(vfio_iommu_type1_info, iova_pgsizes) == 8);
static_assert(offsetof(vfio_iommu_type1_info, cap_offset) == 16);
static_assert(sizeof(vfio_iommu_type1_dma_map) == 32);
static_assert(offsetof(vfio_iommu_type1_dma_map, vaddr) == 8);
static_assert(offsetof(vfio_iommu_type1_dma_map, iova) == 16);
static_assert(offsetof(vfio_iommu_type1_dma_map, size) == 24);
static_assert(sizeof(vfio_iommu_type1_dma_unmap) == 24);
static_assert(offsetof(vfio_iommu_type1_dma_unmap, iova) == 8);
static_assert(offsetof(vfio_iommu_type1_dma_unmap, size) == 16);
static_assert(sizeof(vfio_bitmap) == 24);
static_assert(sizeof(vfio_iommu_type1_dirty_bitmap) == 8);
static_assert(sizeof(vfio_iommu_type1_dirty_bitmap_get) == 40);
static_assert(sizeof(vfio_info_cap_header) == 8);
static_assert(sizeof(vfio_iommu_type1_info_cap_iova_range) == 16);
static_assert(sizeof(vfio_iova_range) == 16);
static_assert(sizeof(vfio_iommu_type1_info_cap_migration) == 32);
static_assert(sizeof(vfio_iommu_type1_info_dma_avail) == 12);

} // namespace vfio_shim::abi
