// SPDX-License-Identifier: MIT
/// @file
/// What devices have written to: VFIO_IOMMU_DIRTY_PAGES, and the bitmap of an unmap.
#pragma once

#include "rules/address_space_state.hpp"
#include "rules/legacy_call.hpp"

#include "vfio_shim/client.hpp"
#include "vfio_shim/ledger.hpp"

namespace vfio_shim::type1 {

/// A client's bitmap, which has been checked, and the IOVA that its first bit stands for.
struct DirtyBitmap {
  rules::Bitmap place;
  Iova base;
};

/// The place where mappings that are not reported yet are written down.
struct DirtyBooks {
  Ledger &ledger;
  Ledger::Record container;
};

/// Serves VFIO_IOMMU_DIRTY_PAGES.
/// @return As vfio_iommu_type1_dirty_pages() in drivers/vfio/vfio_iommu_type1.c.
Result<long> dirty_pages(rules::AddressSpaceState &iommu, Backend &backend, Client &client,
                         const rules::DirtyPages &call, const DirtyBooks &books);

/// Says that all pages of @p range, where the bitmap begins, are dirty: as type1 does of all that
/// is pinned. For a range where nobody knows the mappings: the kernel tells nothing of what lies
/// behind a hole, and does not say so.
/// @return EFAULT: the bitmap is not there.
Result<void> report_all_dirty(Client &client, IovaRange range, const DirtyBitmap &bitmap);

/// Puts the bits of one mapping where they belong in the client's bitmap.
///
/// The bitmap's other bits stay as they are, but for those behind the mapping in the last u64 that
/// it reaches: they become 0, as type1 has it.
/// The mapping is left as one that is all dirty if it is to be clean afterwards: whoever asks says
/// when the report has arrived.
/// @return EFAULT: the bitmap is not there. Then no page counts as reported.
Result<void> report_dirty(Backend &backend, Client &client,
                          rules::MappingTable::Mappings::value_type &entry,
                          const DirtyBitmap &bitmap, AfterReport after, const DirtyBooks &books);

} // namespace vfio_shim::type1
