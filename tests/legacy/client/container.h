// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <linux/vfio.h>

#include "answer.h"
#include "fd.h"
#include "provider.h"
#include "units.h"

namespace legacy {

class Memory;

/// The argument of VFIO_SET_IOMMU.
enum class IommuType : unsigned long { Type1 = VFIO_TYPE1_IOMMU, Type1v2 = VFIO_TYPE1v2_IOMMU };

/// What a device may do with a mapping.
enum class Access : std::uint32_t {
  None = 0,
  Read = VFIO_DMA_MAP_FLAG_READ,
  Write = VFIO_DMA_MAP_FLAG_WRITE,
  ReadWrite = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
};

/// One usable range of IOVAs, both ends included.
struct IovaRange {
  Iova first;
  Iova last;
  friend constexpr bool operator==(const IovaRange &, const IovaRange &) = default;
};
std::ostream &operator<<(std::ostream &out, const IovaRange &range);

/// The answer of VFIO_IOMMU_GET_INFO with its capability chain taken apart.
struct IommuInfo {
  /// One link of the chain, as it lies in the buffer.
  struct Capability {
    std::uint16_t id = 0;
    std::uint16_t version = 0;
    /// Where it starts, from the start of the structure.
    std::uint32_t offset = 0;
  };
  struct Migration {
    std::uint32_t flags = 0;
    std::uint64_t page_sizes = 0;
    Bytes max_dirty_bitmap;
  };

  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  /// Bit n set: pages of 2^n bytes.
  std::uint64_t page_sizes = 0;
  /// In the order of the chain.
  std::vector<Capability> capabilities;
  std::vector<IovaRange> iova_ranges;
  std::optional<std::uint32_t> dma_available;
  std::optional<Migration> migration;

  /// Takes an answer apart. `buffer` starts with a vfio_iommu_type1_info.
  /// Throws std::runtime_error saying what is wrong with the chain.
  static IommuInfo parse(const std::vector<std::byte> &buffer);
};

/// A legacy VFIO container: one open file of the container node.
///
/// Every ioctl here answers what the call answered, so that both success and failure can be
/// expected; what a test cannot go on without throws std::system_error instead, and says so.
class Container {
public:
  /// Opens the provider's container node. Throws std::system_error.
  explicit Container(const Provider &provider);
  /// Takes over an open file of the container node, from another process or another program.
  explicit Container(Fd fd) : fd_{std::move(fd)} {}

  const Fd &fd() const { return fd_; }
  void close() { fd_.close(); }

  Answer api_version() const;
  Answer check_extension(unsigned long extension) const;
  Answer set_iommu(IommuType type) const;
  Answer set_iommu(unsigned long type) const;

  /// The IOMMU's properties, asked for as programs do: once for the size, once for all of it.
  /// Throws std::system_error, or std::runtime_error for a chain that is not one.
  IommuInfo info() const;

  /// VFIO_IOMMU_MAP_DMA of [vaddr, vaddr + size).
  Answer map(Iova iova, const void *vaddr, Bytes size, Access access = Access::ReadWrite) const;
  /// VFIO_IOMMU_MAP_DMA of all of `memory`.
  Answer map(Iova iova, const Memory &memory, Access access = Access::ReadWrite) const;
  /// VFIO_IOMMU_UNMAP_DMA: answers the number of bytes that were unmapped.
  Answer unmap(Iova iova, Bytes size, std::uint32_t flags = 0) const;
  /// VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_ALL: answers the number of bytes unmapped.
  Answer unmap_all() const;

  /// VFIO_IOMMU_DIRTY_PAGES with START or STOP, or whatever `flags` say.
  Answer dirty_pages(std::uint32_t flags) const;
  /// VFIO_IOMMU_DIRTY_PAGES with GET_BITMAP of [iova, iova + size): one bit for each `page_size`
  /// bytes, in whole u64.
  Answer dirty_bitmap(Iova iova, Bytes size, std::span<std::uint64_t> bitmap,
                      Bytes page_size = page) const;
  /// As unmap(), getting the dirty bitmap of what is unmapped.
  Answer unmap_with_dirty_bitmap(Iova iova, Bytes size, std::span<std::uint64_t> bitmap,
                                 Bytes page_size = page) const;

  /// VFIO_DMA_UNMAP_FLAG_VADDR: the mappings in the range stay, their addresses in the client
  /// become invalid. Answers the number of bytes that are concerned.
  Answer invalidate_vaddr(Iova iova, Bytes size) const;
  /// VFIO_DMA_MAP_FLAG_VADDR: gives an invalidated mapping a new address in the client.
  Answer update_vaddr(Iova iova, const void *vaddr, Bytes size) const;

private:
  Fd fd_;
};

/// The call unmapped `size`.
constexpr Answer unmaps(Bytes size) {
  return Answer::value(static_cast<long>(size.count));
}

/// The argument of VFIO_IOMMU_MAP_DMA, filled in; for tests that then spoil it.
vfio_iommu_type1_dma_map map_request(Iova iova, const void *vaddr, Bytes size,
                                     Access access = Access::ReadWrite);
/// The argument of VFIO_IOMMU_UNMAP_DMA, filled in; for tests that then spoil it.
vfio_iommu_type1_dma_unmap unmap_request(Iova iova, Bytes size, std::uint32_t flags = 0);

} // namespace legacy
