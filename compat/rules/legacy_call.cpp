// SPDX-License-Identifier: MIT
#include "rules/legacy_call.hpp"

#include <algorithm>

#include <linux/vfio.h>

namespace vfio_shim::rules {

Access MapDma::access() const {
  return {.read = (flags & VFIO_DMA_MAP_FLAG_READ) != 0,
          .write = (flags & VFIO_DMA_MAP_FLAG_WRITE) != 0};
}

bool MapDma::vaddr_only() const {
  return (flags & VFIO_DMA_MAP_FLAG_VADDR) != 0;
}

std::uint32_t MapDma::unknown_flags() const {
  return flags & ~(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | VFIO_DMA_MAP_FLAG_VADDR);
}

MapRequest MapDma::request() const {
  return {.iova = iova, .vaddr = vaddr, .size = size, .access = access()};
}

bool UnmapDma::gets_bitmap() const {
  return (flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) != 0;
}

bool UnmapDma::all() const {
  return (flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0;
}

bool UnmapDma::vaddr_only() const {
  return (flags & VFIO_DMA_UNMAP_FLAG_VADDR) != 0;
}

std::uint32_t UnmapDma::unknown_flags() const {
  return flags & ~(VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL |
                   VFIO_DMA_UNMAP_FLAG_VADDR);
}

bool DirtyPages::starts() const {
  return (flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_START) != 0;
}

bool DirtyPages::stops() const {
  return (flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) != 0;
}

bool DirtyPages::gets_bitmap() const {
  return (flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) != 0;
}

std::uint32_t DirtyPages::unknown_flags() const {
  return flags & ~(VFIO_IOMMU_DIRTY_PAGES_FLAG_START | VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP |
                   VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP);
}

bool GetStatus::viable() const {
  return (flags & VFIO_GROUP_FLAGS_VIABLE) != 0;
}

bool GetStatus::in_container() const {
  return (flags & VFIO_GROUP_FLAGS_CONTAINER_SET) != 0;
}

std::uint32_t GetStatus::unknown_flags() const {
  return flags & ~(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
}

std::string_view GetDeviceFd::name() const {
  return std::string_view(text).substr(0, text.find(' '));
}

std::string_view GetDeviceFd::options() const {
  return std::string_view(text).substr(std::min(text.find(' '), text.size()));
}

} // namespace vfio_shim::rules
