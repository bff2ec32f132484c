// SPDX-License-Identifier: MIT
#include "rules/capability_chain.hpp"

#include "abi/vfio.hpp"
#include "rules/dirty_bitmap.hpp"

#include <cstring>

namespace vfio_shim::rules {

namespace {

/// A chain under construction: every capability starts on 8 bytes and knows the next one's offset.
class Chain {
public:
  explicit Chain(std::size_t base) : base_(base) {}

  /// Appends a capability, a struct that starts with a header, with @p tail bytes behind it.
  /// @return Where it is, zeroed but for its header; valid until the next append.
  template <typename Capability>
  Capability *append(std::uint16_t id, std::size_t tail = 0) {
    const std::size_t size = sizeof(Capability) + tail;
    const std::size_t start = bytes_.size();
    bytes_.resize(start + ((size + 7) & ~std::size_t{7}));
    if (last_ != nothing)
      header_at(last_)->next = static_cast<std::uint32_t>(base_ + start);
    last_ = start;
    *header_at(start) = {.id = id, .version = 1, .next = 0};
    return reinterpret_cast<Capability *>(bytes_.data() + start);
  }

  std::vector<std::byte> take() { return std::move(bytes_); }

private:
  static constexpr std::size_t nothing = SIZE_MAX;

  vfio_info_cap_header *header_at(std::size_t offset) {
    return reinterpret_cast<vfio_info_cap_header *>(bytes_.data() + offset);
  }

  std::size_t base_;
  std::size_t last_ = nothing;
  std::vector<std::byte> bytes_;
};

void append_migration(Chain &chain, const AddressSpace &space) {
  auto *capability =
      chain.append<vfio_iommu_type1_info_cap_migration>(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
  capability->pgsize_bitmap = space.page_size().value;
  capability->max_dirty_bitmap_size = max_dirty_bitmap_size.value;
}

void append_dma_available(Chain &chain, std::uint32_t available) {
  auto *capability = chain.append<vfio_iommu_type1_info_dma_avail>(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
  capability->avail = available;
}

void append_iova_ranges(Chain &chain, const AddressSpace &space) {
  if (space.usable.empty())
    return;
  auto *capability = chain.append<vfio_iommu_type1_info_cap_iova_range>(
      VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, space.usable.size() * sizeof(vfio_iova_range));
  capability->nr_iovas = static_cast<std::uint32_t>(space.usable.size());
  for (std::size_t i = 0; i < space.usable.size(); ++i)
    capability->iova_ranges[i] = {.start = space.usable[i].first.value,
                                  .end = space.usable[i].last.value};
}

} // namespace

std::vector<std::byte> build_capability_chain(const AddressSpace &space, std::uint32_t available,
                                              std::size_t base) {
  Chain chain(base);
  append_migration(chain, space);
  append_dma_available(chain, available);
  append_iova_ranges(chain, space);
  return chain.take();
}

} // namespace vfio_shim::rules
