// SPDX-License-Identifier: MIT
#include "type1/dirty_pages.hpp"

#include "rules/container_rules.hpp"
#include "rules/dirty_bitmap.hpp"

#include <algorithm>

#include "bitmap.hpp"

namespace vfio_shim::type1 {

namespace {

/// How many pages are reported in one go: a bitmap of 64 KiB, for 2 GiB of memory in 4 KiB pages.
/// A multiple of 64, so that every piece of a mapping has the same place in its first u64.
constexpr std::uint64_t pages_at_once = std::uint64_t{1} << 19;

void set_all_dirty(rules::Mapping &mapping, bool yes, const DirtyBooks &books) {
  if (mapping.all_dirty == yes)
    return;
  mapping.all_dirty = yes;
  books.ledger.all_dirty(mapping.record, yes);
}

Result<long> start(rules::AddressSpaceState &iommu, Backend &backend, const DirtyBooks &books) {
  if (iommu.tracking_dirty)
    return 0;
  VFIO_SHIM_TRY(rules::check_start_of_tracking(iommu));
  if (!iommu.express)
    VFIO_SHIM_TRY(backend.track_dirty(true));
  const auto all = iommu.mappings.all();
  for (auto mapping = all.begin; mapping != all.end; ++mapping)
    set_all_dirty(mapping->second, false, books);
  iommu.tracking_dirty = true;
  books.ledger.dirty_tracked(books.container, true);
  return 0;
}

Result<long> stop(rules::AddressSpaceState &iommu, Backend &backend, const DirtyBooks &books) {
  if (!iommu.express)
    VFIO_SHIM_TRY(backend.track_dirty(false));
  iommu.tracking_dirty = false;
  books.ledger.dirty_tracked(books.container, false);
  return 0;
}

/// Puts @p count bits into the client's bitmap, from bit @p first on.
Result<void> write_bits(Client &client, ClientAddr bitmap, std::uint64_t first,
                        std::span<const std::uint64_t> bits, std::uint64_t count) {
  const ClientAddr place = bitmap + Bytes{first / 64 * sizeof(std::uint64_t)};
  const auto shift = static_cast<unsigned int>(first % 64);
  auto moved = moved_up(bits, count, shift);
  if (shift != 0) {
    std::uint64_t before = 0;
    VFIO_SHIM_TRY(client.read(place, std::as_writable_bytes(std::span(&before, 1))));
    moved.front() |= before;
  }
  return client.write(place, std::as_bytes(std::span(moved)));
}

/// Reports the pages of @p range, which are not too many to do it in one go.
Result<void> report_piece(Backend &backend, Client &client, IovaRange range, bool all_dirty,
                          const DirtyBitmap &bitmap, AfterReport after) {
  const std::uint64_t count = (range.last - range.first).value / bitmap.place.page_size.value + 1;
  std::vector<std::uint64_t> bits(rules::dirty_bitmap_size(count).value / sizeof(std::uint64_t));
  VFIO_SHIM_TRY(backend.report_dirty(range, bitmap.place.page_size, after, bits));
  if (all_dirty)
    set_first_bits(bits, count);
  const std::uint64_t first = (range.first - bitmap.base).value / bitmap.place.page_size.value;
  return write_bits(client, bitmap.place.address, first, bits, count);
}

Result<void> report_range(Backend &backend, Client &client, IovaRange range, bool all_dirty,
                          const DirtyBitmap &bitmap, AfterReport after) {
  const std::uint64_t piece = pages_at_once * bitmap.place.page_size.value;
  const std::uint64_t size = (range.last - range.first).value + 1;
  for (std::uint64_t done = 0; done < size; done += piece) {
    const Iova first = range.first + Bytes{done};
    VFIO_SHIM_TRY(report_piece(backend, client,
                               {first, Iova{first.value + std::min(piece, size - done) - 1}},
                               all_dirty, bitmap, after));
  }
  return {};
}

} // namespace

Result<void> report_all_dirty(Client &client, IovaRange range, const DirtyBitmap &bitmap) {
  const std::uint64_t page_size = bitmap.place.page_size.value;
  const std::uint64_t pages = (range.last - range.first).value / page_size + 1;
  for (std::uint64_t done = 0; done < pages; done += pages_at_once) {
    const std::uint64_t count = std::min(pages_at_once, pages - done);
    std::vector<std::uint64_t> bits(rules::dirty_bitmap_size(count).value / sizeof(std::uint64_t));
    set_first_bits(bits, count);
    VFIO_SHIM_TRY(write_bits(client, bitmap.place.address, done, bits, count));
  }
  return {};
}

namespace {

Result<long> get_bitmap(rules::AddressSpaceState &iommu, Backend &backend, Client &client,
                        const rules::DirtyPages::Range &range, const DirtyBooks &books) {
  const DirtyBitmap bitmap{.place = range.bitmap, .base = range.iova};
  if (iommu.express) {
    const auto iovas = rules::check_report(range, iommu);
    if (!iovas)
      return pass_on(iovas);
    VFIO_SHIM_TRY(report_all_dirty(client, *iovas, bitmap));
    return 0;
  }
  const auto run = rules::find_report(range, iommu);
  if (!run)
    return pass_on(run);
  // Until the client has all of it, all of it can be reported once more.
  auto entry = run->begin;
  Result<void> reported;
  while (entry != run->end && reported) {
    reported = report_dirty(backend, client, *entry, bitmap, AfterReport::clean, books);
    if (reported)
      ++entry;
  }
  if (reported)
    client.about_to({.kind = Intention::Kind::done});
  for (auto done = run->begin; done != entry; ++done)
    set_all_dirty(done->second, false, books);
  return reported ? Result<long>(0) : pass_on(reported);
}

} // namespace

Result<long> dirty_pages(rules::AddressSpaceState &iommu, Backend &backend, Client &client,
                         const rules::DirtyPages &call, const DirtyBooks &books) {
  VFIO_SHIM_TRY(rules::check_flags(call));
  if (call.starts())
    return start(iommu, backend, books);
  if (call.stops())
    return stop(iommu, backend, books);
  return get_bitmap(iommu, backend, client, *call.range, books);
}

Result<void> report_dirty(Backend &backend, Client &client,
                          rules::MappingTable::Mappings::value_type &entry,
                          const DirtyBitmap &bitmap, AfterReport after, const DirtyBooks &books) {
  auto &[iova, mapping] = entry;
  // Until the client has it all: what the IOMMU has told and the client has not heard would be
  // lost.
  const bool all_dirty = mapping.all_dirty;
  set_all_dirty(mapping, true, books);
  VFIO_SHIM_TRY(report_range(backend, client, {iova, Iova{iova.value + mapping.size.value - 1}},
                             all_dirty, bitmap, after));
  if (after == AfterReport::keep)
    set_all_dirty(mapping, all_dirty, books);
  return {};
}

} // namespace vfio_shim::type1
