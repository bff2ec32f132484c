// SPDX-License-Identifier: MIT
/// @file
/// Numbers and layouts of the kernel's ABIs, against constants written out by hand from
/// include/uapi/linux/{iommufd,vfio,fs}.h.

#include "abi/iommufd.hpp"
#include "abi/procmap.hpp"
#include "abi/vfio.hpp"

#include <gtest/gtest.h>

namespace vfio_shim::abi {
namespace {

TEST(IommufdAbi, IoctlsHaveTheKernelsNumbers) {
  EXPECT_EQ(iommu_destroy, 0x3b80U);
  EXPECT_EQ(iommu_ioas_alloc, 0x3b81U);
  EXPECT_EQ(iommu_ioas_allow_iovas, 0x3b82U);
  EXPECT_EQ(iommu_ioas_iova_ranges, 0x3b84U);
  EXPECT_EQ(iommu_ioas_map, 0x3b85U);
  EXPECT_EQ(iommu_ioas_unmap, 0x3b86U);
  EXPECT_EQ(iommu_option, 0x3b87U);
  EXPECT_EQ(iommu_vfio_ioas, 0x3b88U);
  EXPECT_EQ(iommu_hwpt_alloc, 0x3b89U);
  EXPECT_EQ(iommu_get_hw_info, 0x3b8aU);
  EXPECT_EQ(iommu_hwpt_set_dirty_tracking, 0x3b8bU);
  EXPECT_EQ(iommu_hwpt_get_dirty_bitmap, 0x3b8cU);
  EXPECT_EQ(iommu_ioas_map_file, 0x3b8fU);
}

TEST(IommufdAbi, FlagsAndOptionsHaveTheKernelsValues) {
  EXPECT_EQ(ioas_map_fixed_iova, 1U);
  EXPECT_EQ(ioas_map_writeable, 2U);
  EXPECT_EQ(ioas_map_readable, 4U);
  EXPECT_EQ(option_rlimit_mode, 0U);
  EXPECT_EQ(option_op_set, 0U);
  EXPECT_EQ(vfio_ioas_set, 1U);
  EXPECT_EQ(hwpt_alloc_dirty_tracking, 2U);
  EXPECT_EQ(hw_cap_dirty_tracking, 1U);
  EXPECT_EQ(hwpt_dirty_tracking_enable, 1U);
  EXPECT_EQ(hwpt_get_dirty_bitmap_no_clear, 1U);
}

TEST(IommufdAbi, StructsHaveTheKernelsLayout) {
  EXPECT_EQ(sizeof(IommuDestroy), 8U);
  EXPECT_EQ(offsetof(IommuDestroy, id), 4U);

  EXPECT_EQ(sizeof(IommuIoasAlloc), 12U);
  EXPECT_EQ(offsetof(IommuIoasAlloc, flags), 4U);
  EXPECT_EQ(offsetof(IommuIoasAlloc, out_ioas_id), 8U);

  EXPECT_EQ(sizeof(IommuIovaRange), 16U);
  EXPECT_EQ(offsetof(IommuIovaRange, last), 8U);

  EXPECT_EQ(sizeof(IommuIoasAllowIovas), 24U);
  EXPECT_EQ(offsetof(IommuIoasAllowIovas, ioas_id), 4U);
  EXPECT_EQ(offsetof(IommuIoasAllowIovas, num_iovas), 8U);
  EXPECT_EQ(offsetof(IommuIoasAllowIovas, allowed_iovas), 16U);

  EXPECT_EQ(sizeof(IommuIoasIovaRanges), 32U);
  EXPECT_EQ(offsetof(IommuIoasIovaRanges, ioas_id), 4U);
  EXPECT_EQ(offsetof(IommuIoasIovaRanges, num_iovas), 8U);
  EXPECT_EQ(offsetof(IommuIoasIovaRanges, allowed_iovas), 16U);
  EXPECT_EQ(offsetof(IommuIoasIovaRanges, out_iova_alignment), 24U);

  EXPECT_EQ(sizeof(IommuIoasMap), 40U);
  EXPECT_EQ(offsetof(IommuIoasMap, flags), 4U);
  EXPECT_EQ(offsetof(IommuIoasMap, ioas_id), 8U);
  EXPECT_EQ(offsetof(IommuIoasMap, user_va), 16U);
  EXPECT_EQ(offsetof(IommuIoasMap, length), 24U);
  EXPECT_EQ(offsetof(IommuIoasMap, iova), 32U);

  EXPECT_EQ(sizeof(IommuIoasMapFile), 40U);
  EXPECT_EQ(offsetof(IommuIoasMapFile, ioas_id), 8U);
  EXPECT_EQ(offsetof(IommuIoasMapFile, fd), 12U);
  EXPECT_EQ(offsetof(IommuIoasMapFile, start), 16U);
  EXPECT_EQ(offsetof(IommuIoasMapFile, length), 24U);
  EXPECT_EQ(offsetof(IommuIoasMapFile, iova), 32U);

  EXPECT_EQ(sizeof(IommuIoasUnmap), 24U);
  EXPECT_EQ(offsetof(IommuIoasUnmap, ioas_id), 4U);
  EXPECT_EQ(offsetof(IommuIoasUnmap, iova), 8U);
  EXPECT_EQ(offsetof(IommuIoasUnmap, length), 16U);

  EXPECT_EQ(sizeof(IommuOption), 24U);
  EXPECT_EQ(offsetof(IommuOption, option_id), 4U);
  EXPECT_EQ(offsetof(IommuOption, op), 8U);
  EXPECT_EQ(offsetof(IommuOption, object_id), 12U);
  EXPECT_EQ(offsetof(IommuOption, val64), 16U);

  EXPECT_EQ(sizeof(IommuVfioIoas), 12U);
  EXPECT_EQ(offsetof(IommuVfioIoas, ioas_id), 4U);
  EXPECT_EQ(offsetof(IommuVfioIoas, op), 8U);

  EXPECT_EQ(sizeof(IommuHwptAlloc), 48U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, flags), 4U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, dev_id), 8U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, pt_id), 12U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, out_hwpt_id), 16U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, data_type), 24U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, data_len), 28U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, data_uptr), 32U);
  EXPECT_EQ(offsetof(IommuHwptAlloc, fault_id), 40U);

  EXPECT_EQ(sizeof(IommuHwInfo), 40U);
  EXPECT_EQ(offsetof(IommuHwInfo, dev_id), 8U);
  EXPECT_EQ(offsetof(IommuHwInfo, data_len), 12U);
  EXPECT_EQ(offsetof(IommuHwInfo, data_uptr), 16U);
  EXPECT_EQ(offsetof(IommuHwInfo, out_data_type), 24U);
  EXPECT_EQ(offsetof(IommuHwInfo, out_capabilities), 32U);

  EXPECT_EQ(sizeof(IommuHwptSetDirtyTracking), 16U);
  EXPECT_EQ(offsetof(IommuHwptSetDirtyTracking, flags), 4U);
  EXPECT_EQ(offsetof(IommuHwptSetDirtyTracking, hwpt_id), 8U);

  EXPECT_EQ(sizeof(IommuHwptGetDirtyBitmap), 48U);
  EXPECT_EQ(offsetof(IommuHwptGetDirtyBitmap, hwpt_id), 4U);
  EXPECT_EQ(offsetof(IommuHwptGetDirtyBitmap, flags), 8U);
  EXPECT_EQ(offsetof(IommuHwptGetDirtyBitmap, iova), 16U);
  EXPECT_EQ(offsetof(IommuHwptGetDirtyBitmap, length), 24U);
  EXPECT_EQ(offsetof(IommuHwptGetDirtyBitmap, page_size), 32U);
  EXPECT_EQ(offsetof(IommuHwptGetDirtyBitmap, data), 40U);
}

TEST(IommufdAbi, EveryStructStartsWithItsOwnSize) {
  EXPECT_EQ(IommuDestroy{}.size, 8U);
  EXPECT_EQ(IommuIoasAlloc{}.size, 12U);
  EXPECT_EQ(IommuIoasIovaRanges{}.size, 32U);
  EXPECT_EQ(IommuIoasMap{}.size, 40U);
  EXPECT_EQ(IommuIoasMapFile{}.size, 40U);
  EXPECT_EQ(IommuIoasUnmap{}.size, 24U);
  EXPECT_EQ(IommuOption{}.size, 24U);
  EXPECT_EQ(IommuVfioIoas{}.size, 12U);
  EXPECT_EQ(IommuHwptAlloc{}.size, 48U);
  EXPECT_EQ(IommuHwInfo{}.size, 40U);
  EXPECT_EQ(IommuHwptSetDirtyTracking{}.size, 16U);
  EXPECT_EQ(IommuHwptGetDirtyBitmap{}.size, 48U);
}

TEST(VfioAbi, CdevIoctlsHaveTheKernelsNumbers) {
  EXPECT_EQ(device_bind_iommufd, 0x3b76U);
  EXPECT_EQ(device_attach_iommufd_pt, 0x3b77U);
  EXPECT_EQ(device_detach_iommufd_pt, 0x3b78U);
}

TEST(VfioAbi, CdevStructsHaveTheKernelsLayout) {
  EXPECT_EQ(sizeof(DeviceBindIommufd), 16U);
  EXPECT_EQ(offsetof(DeviceBindIommufd, flags), 4U);
  EXPECT_EQ(offsetof(DeviceBindIommufd, iommufd), 8U);
  EXPECT_EQ(offsetof(DeviceBindIommufd, out_devid), 12U);
  EXPECT_EQ(sizeof(DeviceAttachIommufdPt), 12U);
  EXPECT_EQ(offsetof(DeviceAttachIommufdPt, pt_id), 8U);
  EXPECT_EQ(sizeof(DeviceDetachIommufdPt), 8U);
}

TEST(VfioAbi, LegacyIoctlsHaveTheNumbersThatOldProgramsWereBuiltWith) {
  EXPECT_EQ(VFIO_GET_API_VERSION, 0x3b64U);
  EXPECT_EQ(VFIO_CHECK_EXTENSION, 0x3b65U);
  EXPECT_EQ(VFIO_SET_IOMMU, 0x3b66U);
  EXPECT_EQ(VFIO_GROUP_GET_STATUS, 0x3b67U);
  EXPECT_EQ(VFIO_GROUP_SET_CONTAINER, 0x3b68U);
  EXPECT_EQ(VFIO_GROUP_UNSET_CONTAINER, 0x3b69U);
  EXPECT_EQ(VFIO_GROUP_GET_DEVICE_FD, 0x3b6aU);
  EXPECT_EQ(VFIO_IOMMU_GET_INFO, 0x3b70U);
  EXPECT_EQ(VFIO_IOMMU_MAP_DMA, 0x3b71U);
  EXPECT_EQ(VFIO_IOMMU_UNMAP_DMA, 0x3b72U);
  EXPECT_EQ(VFIO_IOMMU_DIRTY_PAGES, 0x3b75U);
}

TEST(VfioAbi, LegacyValuesAreThoseThatOldProgramsWereBuiltWith) {
  EXPECT_EQ(VFIO_API_VERSION, 0);
  EXPECT_EQ(VFIO_TYPE1_IOMMU, 1);
  EXPECT_EQ(VFIO_TYPE1v2_IOMMU, 3);
  EXPECT_EQ(VFIO_DMA_CC_IOMMU, 4);
  EXPECT_EQ(VFIO_UNMAP_ALL, 9);
  EXPECT_EQ(VFIO_GROUP_FLAGS_VIABLE, 1);
  EXPECT_EQ(VFIO_GROUP_FLAGS_CONTAINER_SET, 2);
  EXPECT_EQ(VFIO_DMA_MAP_FLAG_READ, 1);
  EXPECT_EQ(VFIO_DMA_MAP_FLAG_WRITE, 2);
  EXPECT_EQ(VFIO_DMA_UNMAP_FLAG_ALL, 2);
  EXPECT_EQ(VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, 1);
  EXPECT_EQ(VFIO_IOMMU_DIRTY_PAGES_FLAG_START, 1);
  EXPECT_EQ(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP, 2);
  EXPECT_EQ(VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, 4);
  EXPECT_EQ(VFIO_IOMMU_INFO_PGSIZES, 1);
  EXPECT_EQ(VFIO_IOMMU_INFO_CAPS, 2);
  EXPECT_EQ(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1);
  EXPECT_EQ(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, 2);
  EXPECT_EQ(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 3);
}

TEST(ProcmapAbi, HasTheKernelsNumberAndLayout) {
  EXPECT_EQ(procmap_query, 0xc0686611UL);
  EXPECT_EQ(sizeof(ProcmapQuery), 104U);
  EXPECT_EQ(offsetof(ProcmapQuery, query_flags), 8U);
  EXPECT_EQ(offsetof(ProcmapQuery, query_addr), 16U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_start), 24U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_end), 32U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_flags), 40U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_page_size), 48U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_offset), 56U);
  EXPECT_EQ(offsetof(ProcmapQuery, inode), 64U);
  EXPECT_EQ(offsetof(ProcmapQuery, dev_major), 72U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_name_size), 80U);
  EXPECT_EQ(offsetof(ProcmapQuery, vma_name_addr), 88U);
  EXPECT_EQ(offsetof(ProcmapQuery, build_id_addr), 96U);
}

} // namespace
} // namespace vfio_shim::abi
