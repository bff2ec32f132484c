// SPDX-License-Identifier: MIT
#include "client/pagemap.hpp"

#include "abi/pagemap.hpp"

#include <algorithm>
#include <array>
#include <span>

#include <sys/ioctl.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

constexpr std::uint64_t page_size = 4096;

} // namespace

std::vector<std::uint64_t> physical_pages(const Fd &pagemap, ClientAddr start, Bytes size) {
  constexpr std::uint64_t is_present = std::uint64_t{1} << 63;
  constexpr std::uint64_t number = (std::uint64_t{1} << 55) - 1; // 0: we may not see it.
  std::vector<std::uint64_t> pages(size.value / page_size);
  const std::size_t bytes = pages.size() * sizeof(std::uint64_t);
  if (!pagemap || ::pread(pagemap.get(), pages.data(), bytes,
                          static_cast<off_t>(start.value / page_size * sizeof(std::uint64_t))) !=
                      static_cast<ssize_t>(bytes))
    return {};
  for (std::uint64_t &page : pages) {
    if ((page & is_present) == 0 || (page & number) == 0)
      return {};
    page &= number;
  }
  return pages;
}

bool is_quickly_pinned(const Fd &pagemap, ClientAddr start, Bytes size, std::uint64_t many) {
  constexpr std::uint64_t either = abi::page_is_present | abi::page_is_huge;
  std::array<abi::PageRegion, 64> unlike{}; // What is not both.
  abi::PagemapScan scan{.start = start.value,
                        .end = start.value + size.value,
                        .vec = reinterpret_cast<std::uintptr_t>(unlike.data()),
                        .vec_len = unlike.size(),
                        .max_pages = many,
                        .category_inverted = either,
                        .category_anyof_mask = either,
                        .return_mask = either};
  const int found = pagemap ? ::ioctl(pagemap.get(), abi::pagemap_scan, &scan) : -1;
  return found >= 0 && scan.walk_end == scan.end &&
         std::ranges::all_of(std::span(unlike).first(static_cast<std::size_t>(found)),
                             [](const abi::PageRegion &region) {
                               return (region.categories & abi::page_is_present) != 0;
                             });
}

} // namespace vfio_shim::client
