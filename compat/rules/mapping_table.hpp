// SPDX-License-Identifier: MIT
/// @file
/// type1's rules about what may be mapped and unmapped. Pure: no system calls.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <map>

namespace vfio_shim::rules {

/// Which of type1's two unmap rules a container has asked for with VFIO_SET_IOMMU.
enum class Version : std::uint8_t { v1, v2 };

/// One successful VFIO_IOMMU_MAP_DMA.
struct Mapping {
  ClientAddr vaddr;
  Bytes size;
  Access access;
  std::uint32_t record = 0; ///< Its record in the ledger.
  bool all_dirty =
      false; ///< To be reported as dirty as a whole once more, whatever the IOMMU says.
  bool vaddr_valid = true; ///< Not between VFIO_DMA_UNMAP_FLAG_VADDR and VFIO_DMA_MAP_FLAG_VADDR.
};

/// The IOVAs that a request which check_map() has allowed is about.
IovaRange range_of(const MapRequest &request);

using Mappings = std::map<Iova, Mapping>;

/// Mappings that one unmap takes: a run of neighbours in the table.
struct MappingRun {
  Mappings::iterator begin;
  Mappings::iterator end;
  Bytes size; ///< Of all of them together.

  bool empty() const { return begin == end; }
  /// From the first mapping's first IOVA to the last one's last. Not for an empty run.
  IovaRange range() const;
};

/// The live mappings of a container, by first IOVA.
class MappingTable {
public:
  using Mappings = rules::Mappings;

  using Run = MappingRun;

  /// @param limit At most this many mappings.
  explicit MappingTable(std::uint32_t limit) : limit_(limit) {}

  /// Whether the request can be mapped as far as addresses go.
  /// @return EINVAL: size 0, no access, misaligned, or an IOVA that is not usable.
  ///         EOVERFLOW: past the end of either address space. EEXIST: overlaps a mapping.
  ///         ENOSPC: too many mappings.
  ///         Source: vfio_dma_do_map() in drivers/vfio/vfio_iommu_type1.c.
  Result<void> check_map(const MapRequest &request, const AddressSpace &space) const;

  /// A mapping that can be inserted without fail: std::bad_alloc comes here, if at all.
  static Mappings::node_type entry_of(const MapRequest &request, std::uint32_t record = 0);

  /// Adds what check_map() has allowed.
  void insert(Mappings::node_type entry) { mappings_.insert(std::move(entry)); }

  /// The mapping that is to get a new vaddr, with VFIO_DMA_MAP_FLAG_VADDR.
  /// @param request Exactly that mapping; no access.
  /// @return EINVAL, EOVERFLOW: as check_map(). ENOENT: nothing there. EINVAL: not one whole
  /// mapping,
  ///         or its vaddr is valid. Source: vfio_dma_do_map().
  Result<Mappings::iterator> find_without_vaddr(const MapRequest &request, Bytes page_size);

  /// What an unmap of [@p iova, @p iova + @p size) takes.
  /// @return EINVAL: misaligned, size 0, or a v2 range that would cut a mapping in two.
  ///         EOVERFLOW: past the end of the address space.
  ///         Source: vfio_dma_do_unmap().
  Result<Run> find_unmap(Iova iova, Bytes size, Bytes page_size, Version version);

  /// The mappings in @p range.
  /// @return EINVAL: it would cut one in two.
  Result<Run> find_whole(IovaRange range);

  /// Every mapping.
  Run all();

  /// Whether a mapping's vaddr is invalid.
  bool any_without_vaddr() const;

  /// Sets Mapping::all_dirty of every mapping.
  void mark_all_dirty(bool dirty = true);

  void erase(const Run &run) { mappings_.erase(run.begin, run.end); }
  void clear() { mappings_.clear(); }

  bool empty() const { return mappings_.empty(); }
  /// How many mappings may still be added (VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL).
  std::uint32_t available() const { return limit_ - static_cast<std::uint32_t>(mappings_.size()); }

private:
  /// The mapping that contains @p iova, or end().
  Mappings::const_iterator containing(Iova iova) const;
  bool cut_by(IovaRange range) const;
  bool overlaps(IovaRange range) const;
  /// The first mapping that ends at or after @p iova.
  Mappings::iterator first_reaching(Iova iova);
  /// From @p begin on, the mappings that start within @p range.
  Run run_from(Mappings::iterator begin, IovaRange range);

  Mappings mappings_;
  std::uint32_t limit_;
};

} // namespace vfio_shim::rules
