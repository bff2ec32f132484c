// SPDX-License-Identifier: MIT
/// @file
/// The kernel's iommufd ABI, as far as it is used: Debian 12's kernel headers have none.
///
/// Source: include/uapi/linux/iommufd.h. Every struct starts with its own size; ioctls return 0 or
/// -1 with errno.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <sys/ioctl.h>

namespace vfio_shim::abi {

inline constexpr unsigned int iommufd_type = ';';

inline constexpr unsigned long iommu_destroy = _IO(iommufd_type, 0x80);
inline constexpr unsigned long iommu_ioas_alloc = _IO(iommufd_type, 0x81);
inline constexpr unsigned long iommu_ioas_allow_iovas = _IO(iommufd_type, 0x82);
inline constexpr unsigned long iommu_ioas_copy = _IO(iommufd_type, 0x83);
inline constexpr unsigned long iommu_ioas_iova_ranges = _IO(iommufd_type, 0x84);
inline constexpr unsigned long iommu_ioas_map = _IO(iommufd_type, 0x85);
inline constexpr unsigned long iommu_ioas_unmap = _IO(iommufd_type, 0x86);
inline constexpr unsigned long iommu_option = _IO(iommufd_type, 0x87);
inline constexpr unsigned long iommu_vfio_ioas = _IO(iommufd_type, 0x88);
inline constexpr unsigned long iommu_hwpt_alloc = _IO(iommufd_type, 0x89);
inline constexpr unsigned long iommu_get_hw_info = _IO(iommufd_type, 0x8a);
inline constexpr unsigned long iommu_hwpt_set_dirty_tracking = _IO(iommufd_type, 0x8b);
inline constexpr unsigned long iommu_hwpt_get_dirty_bitmap = _IO(iommufd_type, 0x8c);
inline constexpr unsigned long iommu_ioas_map_file = _IO(iommufd_type, 0x8f);

struct IommuDestroy {
  std::uint32_t size = sizeof(IommuDestroy);
  std::uint32_t id = 0;
};
static_assert(sizeof(IommuDestroy) == 8);

struct IommuIoasAlloc {
  std::uint32_t size = sizeof(IommuIoasAlloc);
  std::uint32_t flags = 0;
  std::uint32_t out_ioas_id = 0;
};
static_assert(sizeof(IommuIoasAlloc) == 12);

struct IommuIovaRange {
  std::uint64_t start = 0;
  std::uint64_t last = 0;
};
static_assert(sizeof(IommuIovaRange) == 16);

/// From now on nothing is attached that would make one of the ranges unusable (EADDRINUSE).
struct IommuIoasAllowIovas {
  std::uint32_t size = sizeof(IommuIoasAllowIovas);
  std::uint32_t ioas_id = 0;
  std::uint32_t num_iovas = 0;
  std::uint32_t reserved = 0;
  std::uint64_t allowed_iovas = 0; ///< Address of an IommuIovaRange array.
};
static_assert(sizeof(IommuIoasAllowIovas) == 24);

/// EMSGSIZE: num_iovas was too small and now says how many there are.
struct IommuIoasIovaRanges {
  std::uint32_t size = sizeof(IommuIoasIovaRanges);
  std::uint32_t ioas_id = 0;
  std::uint32_t num_iovas = 0;
  std::uint32_t reserved = 0;
  std::uint64_t allowed_iovas = 0;      ///< Address of an IommuIovaRange array.
  std::uint64_t out_iova_alignment = 0; ///< Bytes.
};
static_assert(sizeof(IommuIoasIovaRanges) == 32);

inline constexpr std::uint32_t ioas_map_fixed_iova = 1U << 0;
inline constexpr std::uint32_t ioas_map_writeable = 1U << 1;
inline constexpr std::uint32_t ioas_map_readable = 1U << 2;

/// Pins memory of the *calling* process and maps it.
struct IommuIoasMap {
  std::uint32_t size = sizeof(IommuIoasMap);
  std::uint32_t flags = 0;
  std::uint32_t ioas_id = 0;
  std::uint32_t reserved = 0;
  std::uint64_t user_va = 0;
  std::uint64_t length = 0;
  std::uint64_t iova = 0;
};
static_assert(sizeof(IommuIoasMap) == 40);

/// Maps what another IOAS of the same iommufd has mapped, or a part of it.
struct IommuIoasCopy {
  std::uint32_t size = sizeof(IommuIoasCopy);
  std::uint32_t flags = 0;
  std::uint32_t dst_ioas_id = 0;
  std::uint32_t src_ioas_id = 0;
  std::uint64_t length = 0;
  std::uint64_t dst_iova = 0;
  std::uint64_t src_iova = 0;
};
static_assert(sizeof(IommuIoasCopy) == 40);

/// Pins memory of a memfd, shmem or hugetlbfs file (or dma-buf), whoever calls. Linux 6.13.
struct IommuIoasMapFile {
  std::uint32_t size = sizeof(IommuIoasMapFile);
  std::uint32_t flags = 0;
  std::uint32_t ioas_id = 0;
  std::int32_t fd = -1;
  std::uint64_t start = 0; ///< Byte offset in the file.
  std::uint64_t length = 0;
  std::uint64_t iova = 0;
};
static_assert(sizeof(IommuIoasMapFile) == 40);

/// iova 0 with length UINT64_MAX unmaps everything. ENOENT: nothing there, or a mapping would be
/// cut in two.
struct IommuIoasUnmap {
  std::uint32_t size = sizeof(IommuIoasUnmap);
  std::uint32_t ioas_id = 0;
  std::uint64_t iova = 0;
  std::uint64_t length = 0; ///< Out: bytes unmapped.
};
static_assert(sizeof(IommuIoasUnmap) == 24);

inline constexpr std::uint32_t option_rlimit_mode = 0;
inline constexpr std::uint16_t option_op_set = 0;
inline constexpr std::uint16_t option_op_get = 1;

struct IommuOption {
  std::uint32_t size = sizeof(IommuOption);
  std::uint32_t option_id = 0;
  std::uint16_t op = 0;
  std::uint16_t reserved = 0;
  std::uint32_t object_id = 0;
  std::uint64_t val64 = 0;
};
static_assert(sizeof(IommuOption) == 24);

inline constexpr std::uint16_t vfio_ioas_get = 0;
inline constexpr std::uint16_t vfio_ioas_set = 1;

/// Names the IOAS that legacy ioctls on the same iommufd (kernel-compat) speak of.
struct IommuVfioIoas {
  std::uint32_t size = sizeof(IommuVfioIoas);
  std::uint32_t ioas_id = 0;
  std::uint16_t op = 0;
  std::uint16_t reserved = 0;
};
static_assert(sizeof(IommuVfioIoas) == 12);

inline constexpr std::uint32_t hwpt_alloc_nest_parent = 1U << 0;
/// The domain can tell which pages devices have written to. Linux 6.7.
inline constexpr std::uint32_t hwpt_alloc_dirty_tracking = 1U << 1;
/// PASIDs of the device may be attached, too.
inline constexpr std::uint32_t hwpt_alloc_pasid = 1U << 3;

/// Makes an IOMMU domain that carries an IOAS's mappings, for devices like dev_id. Linux 6.6.
struct IommuHwptAlloc {
  std::uint32_t size = sizeof(IommuHwptAlloc);
  std::uint32_t flags = 0;
  std::uint32_t dev_id = 0;
  std::uint32_t pt_id = 0; ///< The IOAS.
  std::uint32_t out_hwpt_id = 0;
  std::uint32_t reserved = 0;
  std::uint32_t data_type = 0;
  std::uint32_t data_len = 0;
  std::uint64_t data_uptr = 0;
  std::uint32_t fault_id = 0;
  std::uint32_t reserved2 = 0;
};
static_assert(sizeof(IommuHwptAlloc) == 48);

/// The device's IOMMU can tell which pages it has written to.
inline constexpr std::uint64_t hw_cap_dirty_tracking = 1U << 0;
/// Older kernels never set it.
inline constexpr std::uint64_t hw_cap_pci_ats_not_supported = 1U << 3;

/// ENOENT: the device is no longer bound (its cdev was closed).
struct IommuHwInfo {
  std::uint32_t size = sizeof(IommuHwInfo);
  std::uint32_t flags = 0;
  std::uint32_t dev_id = 0;
  std::uint32_t data_len = 0;
  std::uint64_t data_uptr = 0;
  std::uint32_t out_data_type = 0;
  std::uint8_t out_max_pasid_log2 = 0; ///< Width of PASIDs; older kernels leave 0.
  std::array<std::uint8_t, 3> reserved{};
  std::uint64_t out_capabilities = 0;
};
static_assert(sizeof(IommuHwInfo) == 40);

inline constexpr std::uint32_t hwpt_dirty_tracking_enable = 1U << 0;

/// Starts with everything clean. EOPNOTSUPP: the domain was not made for it.
struct IommuHwptSetDirtyTracking {
  std::uint32_t size = sizeof(IommuHwptSetDirtyTracking);
  std::uint32_t flags = 0;
  std::uint32_t hwpt_id = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(IommuHwptSetDirtyTracking) == 16);

/// Dirty pages stay dirty: for a range that is unmapped next.
inline constexpr std::uint32_t hwpt_get_dirty_bitmap_no_clear = 1U << 0;

/// Sets the bit of each page that was written to, and leaves the other bits alone. Bit 0 is iova's.
struct IommuHwptGetDirtyBitmap {
  std::uint32_t size = sizeof(IommuHwptGetDirtyBitmap);
  std::uint32_t hwpt_id = 0;
  std::uint32_t flags = 0;
  std::uint32_t reserved = 0;
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
  std::uint64_t page_size = 0;
  std::uint64_t data = 0; ///< Address of whole u64.
};
static_assert(sizeof(IommuHwptGetDirtyBitmap) == 48);

} // namespace vfio_shim::abi
