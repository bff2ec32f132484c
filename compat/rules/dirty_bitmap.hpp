// SPDX-License-Identifier: MIT
/// @file
/// type1's rules about the bitmaps in which it reports dirty pages. Pure: no system calls.
///
/// A bitmap has a bit for each page of a range, in whole u64.
#pragma once

#include "rules/legacy_call.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <climits>
#include <cstdint>

namespace vfio_shim::rules {

/// No mapping, and no report, is of more pages than this.
inline constexpr std::uint64_t most_tracked_pages = INT_MAX;

/// Whether a mapping of @p size can be tracked.
constexpr bool trackable(Bytes size, Bytes page_size) {
  return size.value / page_size.value <= most_tracked_pages;
}

/// The size of a bitmap for @p pages pages.
constexpr Bytes dirty_bitmap_size(std::uint64_t pages) {
  return Bytes{(pages / 64 + (pages % 64 != 0 ? 1 : 0)) * sizeof(std::uint64_t)};
}

/// The largest bitmap that is taken (VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION).
inline constexpr Bytes max_dirty_bitmap_size = dirty_bitmap_size(most_tracked_pages);

/// Whether @p bitmap can take a report on @p range bytes, in its own page size.
/// @return EINVAL: too small, too large, or not where user memory can be.
///         Source: verify_bitmap_size() and its callers in drivers/vfio/vfio_iommu_type1.c.
Result<void> check_dirty_bitmap(const Bitmap &bitmap, Bytes range);

} // namespace vfio_shim::rules
