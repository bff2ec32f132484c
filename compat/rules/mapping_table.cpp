// SPDX-License-Identifier: MIT
#include "rules/mapping_table.hpp"

#include <algorithm>
#include <iterator>

namespace vfio_shim::rules {

namespace {

bool overflows(std::uint64_t start, Bytes size) {
  return start + (size.value - 1) < start;
}

Iova last_iova(const MappingTable::Mappings::value_type &entry) {
  return Iova{entry.first.value + entry.second.size.value - 1};
}

/// What is wrong with the request's numbers alone.
Result<void> check_addresses(const MapRequest &request, Bytes page_size) {
  const auto &[iova, vaddr, size, access] = request;
  if (size.value == 0)
    return fail(EINVAL, "size 0");
  if (overflows(iova.value, size) || overflows(vaddr.value, size))
    return fail(EOVERFLOW, "range past the end of the address space");
  if (((size.value | iova.value | vaddr.value) & (page_size.value - 1)) != 0)
    return fail(EINVAL, "not aligned to the IOMMU's page size");
  return {};
}

} // namespace

IovaRange range_of(const MapRequest &request) {
  return {request.iova, Iova{request.iova.value + request.size.value - 1}};
}

IovaRange MappingRun::range() const {
  return {begin->first, last_iova(*std::prev(end))};
}

Result<void> MappingTable::check_map(const MapRequest &request, const AddressSpace &space) const {
  VFIO_SHIM_TRY(check_addresses(request, space.page_size()));
  if (!request.access.read && !request.access.write)
    return fail(EINVAL, "neither readable nor writable");
  const IovaRange range = range_of(request);
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

Result<MappingTable::Mappings::iterator> MappingTable::find_without_vaddr(const MapRequest &request,
                                                                          Bytes page_size) {
  VFIO_SHIM_TRY(check_addresses(request, page_size));
  if (request.access.read || request.access.write)
    return fail(EINVAL, "a new vaddr takes no access");
  if (!overlaps(range_of(request)))
    return fail(ENOENT, "nothing is mapped there");
  const auto found = mappings_.find(request.iova);
  if (found == mappings_.end() || found->second.size != request.size)
    return fail(EINVAL, "not one whole mapping");
  if (found->second.vaddr_valid)
    return fail(EINVAL, "its vaddr is valid");
  return found;
}

MappingTable::Mappings::node_type MappingTable::entry_of(const MapRequest &request,
                                                         std::uint32_t record) {
  Mappings single;
  single.emplace(request.iova, Mapping{.vaddr = request.vaddr,
                                       .size = request.size,
                                       .access = request.access,
                                       .record = record});
  return single.extract(single.begin());
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
  if (version == Version::v2)
    return find_whole(range);
  // v1: a mapping goes as a whole if its first IOVA is covered. One that only reaches into the
  // range from below stays, and ends the search with it.
  const auto begin = first_reaching(range.first);
  if (begin != mappings_.end() && begin->first < range.first)
    return Run{.begin = begin, .end = begin, .size = {}};
  return run_from(begin, range);
}

Result<MappingTable::Run> MappingTable::find_whole(IovaRange range) {
  if (cut_by(range))
    return fail(EINVAL, "would cut a mapping in two");
  return run_from(mappings_.lower_bound(range.first), range);
}

MappingTable::Run MappingTable::all() {
  Run run{.begin = mappings_.begin(), .end = mappings_.end(), .size = {}};
  for (const auto &[iova, mapping] : mappings_)
    run.size = run.size + mapping.size;
  return run;
}

bool MappingTable::any_without_vaddr() const {
  return std::ranges::any_of(mappings_,
                             [](const auto &entry) { return !entry.second.vaddr_valid; });
}

void MappingTable::mark_all_dirty(bool dirty) {
  for (auto &[iova, mapping] : mappings_)
    mapping.all_dirty = dirty;
}

MappingTable::Mappings::const_iterator MappingTable::containing(Iova iova) const {
  auto next = mappings_.upper_bound(iova);
  if (next == mappings_.begin())
    return mappings_.end();
  const auto candidate = std::prev(next);
  return iova <= last_iova(*candidate) ? candidate : mappings_.end();
}

bool MappingTable::cut_by(IovaRange range) const {
  const auto at_first = containing(range.first);
  const auto at_last = containing(range.last);
  return (at_first != mappings_.end() && at_first->first != range.first) ||
         (at_last != mappings_.end() && last_iova(*at_last) != range.last);
}

bool MappingTable::overlaps(IovaRange range) const {
  if (containing(range.first) != mappings_.end())
    return true;
  const auto next = mappings_.lower_bound(range.first);
  return next != mappings_.end() && next->first <= range.last;
}

MappingTable::Run MappingTable::run_from(Mappings::iterator begin, IovaRange range) {
  Run run{.begin = begin, .end = begin, .size = {}};
  while (run.end != mappings_.end() && run.end->first <= range.last) {
    run.size = run.size + run.end->second.size;
    ++run.end;
  }
  return run;
}

MappingTable::Mappings::iterator MappingTable::first_reaching(Iova iova) {
  auto next = mappings_.lower_bound(iova);
  if (next != mappings_.begin() && iova <= last_iova(*std::prev(next)))
    return std::prev(next);
  return next;
}

} // namespace vfio_shim::rules
