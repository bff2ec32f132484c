#include "type1/mapping_table.hpp"

#include <algorithm>
#include <iterator>

namespace vfio_shim::type1 {

namespace {

bool overflows(std::uint64_t start, Bytes size) {
  return start + (size.value - 1) < start;
}

Iova last_iova(const MappingTable::Mappings::value_type &entry) {
  return Iova{entry.first.value + entry.second.size.value - 1};
}

} // namespace

IovaRange MappingTable::Run::range() const {
  return {begin->first, last_iova(*std::prev(end))};
}

Result<void> MappingTable::check_map(const MapRequest &request, const AddressSpace &space) const {
  const auto [iova, vaddr, size, access] = request;
  if (size.value == 0)
    return fail(EINVAL, "size 0");
  if (overflows(iova.value, size) || overflows(vaddr.value, size))
    return fail(EOVERFLOW, "range past the end of the address space");
  if (!access.read && !access.write)
    return fail(EINVAL, "neither readable nor writable");
  if (((size.value | iova.value | vaddr.value) & (space.page_size().value - 1)) != 0)
    return fail(EINVAL, "not aligned to the IOMMU's page size");

  const IovaRange range{iova, Iova{iova.value + size.value - 1}};
  if (overlaps(range))
    return fail(EEXIST, "overlaps a mapping");
  if (available() == 0)
    return fail(ENOSPC, "limit of mappings reached");
  const bool usable = std::ranges::any_of(space.usable, [&](const IovaRange &candidate) {
    return candidate.first <= range.first && range.last <= candidate.last;
  });
  if (!usable)
    return fail(EINVAL, "IOVA range not usable");
  return {};
}

void MappingTable::insert(const MapRequest &request, std::uint32_t record) {
  mappings_.emplace(request.iova, Mapping{.vaddr = request.vaddr,
                                          .size = request.size,
                                          .access = request.access,
                                          .record = record});
}

Result<MappingTable::Run> MappingTable::find_unmap(Iova iova, Bytes size, Bytes page_size,
                                                   Version version) {
  if ((iova.value & (page_size.value - 1)) != 0)
    return fail(EINVAL, "IOVA not aligned");
  if (size.value == 0 || (size.value & (page_size.value - 1)) != 0)
    return fail(EINVAL, "size 0 or not aligned");
  if (overflows(iova.value, size))
    return fail(EOVERFLOW, "range past the end of the address space");

  const IovaRange range{iova, Iova{iova.value + size.value - 1}};
  if (version == Version::v2) {
    const auto at_first = containing(range.first);
    const auto at_last = containing(range.last);
    if ((at_first != mappings_.end() && at_first->first != range.first) ||
        (at_last != mappings_.end() && last_iova(*at_last) != range.last))
      return fail(EINVAL, "would cut a mapping in two");
  }

  Run run{.begin = first_reaching(range.first), .end = {}, .size = {}};
  run.end = run.begin;
  // v1: a mapping goes as a whole if its first IOVA is covered. One that only reaches into the
  // range from below stays, and ends the search with it.
  if (run.begin != mappings_.end() && run.begin->first < range.first)
    return run;
  while (run.end != mappings_.end() && run.end->first <= range.last) {
    run.size = run.size + run.end->second.size;
    ++run.end;
  }
  return run;
}

MappingTable::Run MappingTable::all() {
  Run run{.begin = mappings_.begin(), .end = mappings_.end(), .size = {}};
  for (const auto &[iova, mapping] : mappings_)
    run.size = run.size + mapping.size;
  return run;
}

MappingTable::Mappings::const_iterator MappingTable::containing(Iova iova) const {
  auto next = mappings_.upper_bound(iova);
  if (next == mappings_.begin())
    return mappings_.end();
  const auto candidate = std::prev(next);
  return iova <= last_iova(*candidate) ? candidate : mappings_.end();
}

bool MappingTable::overlaps(IovaRange range) const {
  if (containing(range.first) != mappings_.end())
    return true;
  const auto next = mappings_.lower_bound(range.first);
  return next != mappings_.end() && next->first <= range.last;
}

MappingTable::Mappings::iterator MappingTable::first_reaching(Iova iova) {
  auto next = mappings_.lower_bound(iova);
  if (next != mappings_.begin() && iova <= last_iova(*std::prev(next)))
    return std::prev(next);
  return next;
}

} // namespace vfio_shim::type1
