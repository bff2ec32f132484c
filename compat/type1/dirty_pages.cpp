#include "type1/dirty_pages.hpp"

#include "type1/operations.hpp"

#include <algorithm>
#include <utility>

#include "bitmap.hpp"
#include "rules/dirty_bitmap.hpp"

namespace vfio_shim::type1 {

namespace {

/// How many pages are reported in one go: a bitmap of 64 KiB, for 2 GiB of memory in 4 KiB pages.
/// A multiple of 64, so that every piece of a mapping has the same place in its first u64.
constexpr std::uint64_t pages_at_once = std::uint64_t{1} << 19;

constexpr std::size_t minimum_of_dirty_pages = sizeof(vfio_iommu_type1_dirty_bitmap);

Result<long> start(rules::AddressSpaceState &iommu, Backend &backend) {
  if (iommu.tracking_dirty)
    return 0;
  const auto run = iommu.mappings.all();
  for (auto entry = run.begin; entry != run.end; ++entry)
    if (!rules::trackable(entry->second.size, iommu.space.page_size()))
      return fail(EINVAL, "a mapping is too large to be tracked");
  VFIO_SHIM_TRY(backend.track_dirty(true));
  iommu.mappings.mark_all_dirty(false);
  iommu.tracking_dirty = true;
  return 0;
}

Result<long> stop(rules::AddressSpaceState &iommu, Backend &backend) {
  VFIO_SHIM_TRY(backend.track_dirty(false));
  iommu.tracking_dirty = false;
  return 0;
}

/// The mappings to report on. @return As type1 checks a range that it has read.
Result<rules::MappingTable::Run>
mappings_to_report(rules::AddressSpaceState &iommu,
                   const vfio_iommu_type1_dirty_bitmap_get &range) {
  if (range.size == 0)
    return fail(EINVAL, "size 0");
  const std::uint64_t last = range.iova + (range.size - 1);
  if (last < range.iova)
    return fail(EOVERFLOW, "range past the end of the address space");
  VFIO_SHIM_TRY(rules::check_dirty_bitmap(range.bitmap, Bytes{range.size}));
  const std::uint64_t page_size = iommu.space.page_size().value;
  if (range.bitmap.pgsize != page_size)
    return fail(EINVAL, "not the IOMMU's smallest page size");
  if (((range.iova | range.size) & (page_size - 1)) != 0)
    return fail(EINVAL, "not aligned to the IOMMU's page size");
  if (!iommu.tracking_dirty)
    return fail(EINVAL, "not tracking");
  return iommu.mappings.find_whole({Iova{range.iova}, Iova{last}});
}

Result<long> get_bitmap(rules::AddressSpaceState &iommu, Backend &backend, Client &client,
                        const vfio_iommu_type1_dirty_bitmap_get &range) {
  const auto run = mappings_to_report(iommu, range);
  if (!run)
    return pass_on(run);
  const DirtyBitmap bitmap{.address = rules::address_of(range.bitmap),
                           .page_size = iommu.space.page_size(),
                           .base = Iova{range.iova}};
  for (auto entry = run->begin; entry != run->end; ++entry)
    VFIO_SHIM_TRY(report_dirty(backend, client, *entry, bitmap, AfterReport::clean));
  return 0;
}

/// Puts @p count bits into the client's bitmap, from bit @p first on.
Result<void> write_bits(Client &client, ClientAddr bitmap, std::uint64_t first,
                        std::span<const std::uint64_t> bits, std::uint64_t count) {
  const ClientAddr place = bitmap + Bytes{first / 64 * sizeof(std::uint64_t)};
  const auto shift = static_cast<unsigned int>(first % 64);
  auto moved = moved_up(bits, count, shift);
  if (shift != 0) {
    const auto before = read_struct<std::uint64_t>(client, place);
    if (!before)
      return pass_on(before);
    moved.front() |= *before;
  }
  return client.write(place, std::as_bytes(std::span(moved)));
}

/// Reports the pages of @p range, which are not too many to do it in one go.
Result<void> report_piece(Backend &backend, Client &client, IovaRange range, bool all_dirty,
                          const DirtyBitmap &bitmap, AfterReport after) {
  const std::uint64_t count = (range.last - range.first).value / bitmap.page_size.value + 1;
  std::vector<std::uint64_t> bits(rules::dirty_bitmap_size(count).value / sizeof(std::uint64_t));
  VFIO_SHIM_TRY(backend.report_dirty(range, bitmap.page_size, after, bits));
  if (all_dirty)
    set_first_bits(bits, count);
  const std::uint64_t first = (range.first - bitmap.base).value / bitmap.page_size.value;
  return write_bits(client, bitmap.address, first, bits, count);
}

} // namespace

Result<long> dirty_pages(rules::AddressSpaceState &iommu, Backend &backend, Client &client,
                         std::uint64_t argument) {
  if (iommu.version == rules::Version::v1)
    return fail(EACCES, "dirty tracking is for TYPE1v2");
  const auto read =
      read_argument(ArgumentKind::sized_struct, minimum_of_dirty_pages, client, argument);
  if (!read)
    return pass_on(read);
  const auto request = read->as<vfio_iommu_type1_dirty_bitmap>();
  switch (request.flags) {
  case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
    return start(iommu, backend);
  case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
    return stop(iommu, backend);
  case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP: {
    if (request.argsz < minimum_of_dirty_pages + sizeof(vfio_iommu_type1_dirty_bitmap_get))
      return fail(EINVAL, "argsz too small for a range");
    const auto range = read_struct<vfio_iommu_type1_dirty_bitmap_get>(
        client, read->address() + Bytes{minimum_of_dirty_pages});
    if (!range)
      return pass_on(range);
    return get_bitmap(iommu, backend, client, *range);
  }
  default:
    return fail(EINVAL, "not exactly one known flag");
  }
}

Result<DirtyBitmap> read_unmap_bitmap(Client &client, const vfio_iommu_type1_dma_unmap &unmap,
                                      ClientAddr argument) {
  if (unmap.argsz < sizeof(unmap) + sizeof(vfio_bitmap))
    return fail(EINVAL, "argsz too small for a bitmap");
  const auto bitmap = read_struct<vfio_bitmap>(client, argument + Bytes{sizeof(unmap)});
  if (!bitmap)
    return pass_on(bitmap);
  VFIO_SHIM_TRY(rules::check_dirty_bitmap(*bitmap, Bytes{unmap.size}));
  return DirtyBitmap{.address = rules::address_of(*bitmap),
                     .page_size = Bytes{bitmap->pgsize},
                     .base = Iova{unmap.iova}};
}

Result<void> report_dirty(Backend &backend, Client &client,
                          rules::MappingTable::Mappings::value_type &entry,
                          const DirtyBitmap &bitmap, AfterReport after) {
  auto &[iova, mapping] = entry;
  const std::uint64_t piece = pages_at_once * bitmap.page_size.value;
  // Until the client has it all: what the IOMMU has told and the client has not heard would be
  // lost.
  const bool all_dirty = std::exchange(mapping.all_dirty, true);
  for (std::uint64_t done = 0; done < mapping.size.value; done += piece) {
    const Iova first = iova + Bytes{done};
    const std::uint64_t size = std::min(piece, mapping.size.value - done);
    VFIO_SHIM_TRY(report_piece(backend, client, {first, Iova{first.value + size - 1}}, all_dirty,
                               bitmap, after));
  }
  mapping.all_dirty = all_dirty && after == AfterReport::keep;
  return {};
}

} // namespace vfio_shim::type1
