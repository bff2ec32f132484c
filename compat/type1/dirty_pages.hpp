/// @file
/// What devices have written to: VFIO_IOMMU_DIRTY_PAGES, and the bitmap of an unmap.
#pragma once

#include "vfio_shim/client.hpp"

#include <linux/vfio.h>

#include "rules/address_space_state.hpp"

namespace vfio_shim::type1 {

/// A client's bitmap, and the IOVA that its first bit stands for.
struct DirtyBitmap {
  ClientAddr address;
  Bytes page_size;
  Iova base;
};

/// Serves VFIO_IOMMU_DIRTY_PAGES.
/// @param argument The ioctl's argument, of which nothing has been read.
/// @return As vfio_iommu_type1_dirty_pages() in drivers/vfio/vfio_iommu_type1.c.
Result<long> dirty_pages(rules::AddressSpaceState &iommu, Backend &backend, Client &client,
                         std::uint64_t argument);

/// Reads and checks the bitmap that follows the argument of an unmap with
/// VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP.
/// @return EINVAL, EFAULT: as vfio_iommu_type1_unmap_dma().
Result<DirtyBitmap> read_unmap_bitmap(Client &client, const vfio_iommu_type1_dma_unmap &unmap,
                                      ClientAddr argument);

/// Puts the bits of one mapping where they belong in the client's bitmap.
///
/// The bitmap's other bits stay as they are, but for those behind the mapping in the last u64 that
/// it reaches: they become 0, as type1 has it.
/// @return EFAULT: the bitmap is not there. Then no page counts as reported.
Result<void> report_dirty(Backend &backend, Client &client,
                          rules::MappingTable::Mappings::value_type &entry,
                          const DirtyBitmap &bitmap, AfterReport after);

} // namespace vfio_shim::type1
