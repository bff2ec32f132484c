// SPDX-License-Identifier: MIT
/// @file
/// PAGEMAP_SCAN on `/proc/<pid>/pagemap` (Linux 6.7): which pages of a range are of what kind.
///
/// Source: include/uapi/linux/fs.h.
#pragma once

#include <cstdint>

#include <sys/ioctl.h>

namespace vfio_shim::abi {

inline constexpr std::uint64_t page_is_present = std::uint64_t{1} << 3;
inline constexpr std::uint64_t page_is_huge = std::uint64_t{1} << 6;

struct PageRegion {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t categories = 0;
};
static_assert(sizeof(PageRegion) == 24);

struct PagemapScan {
  std::uint64_t size = sizeof(PagemapScan);
  std::uint64_t flags = 0;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t walk_end = 0; ///< Out: where it has stopped.
  std::uint64_t vec = 0;      ///< Address of a PageRegion array.
  std::uint64_t vec_len = 0;
  std::uint64_t max_pages = 0;
  std::uint64_t category_inverted = 0;
  std::uint64_t category_mask = 0;
  std::uint64_t category_anyof_mask = 0;
  std::uint64_t return_mask = 0;
};
static_assert(sizeof(PagemapScan) == 96);

inline constexpr unsigned long pagemap_scan = _IOWR('f', 16, PagemapScan);

} // namespace vfio_shim::abi
