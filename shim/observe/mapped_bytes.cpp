// SPDX-License-Identifier: MIT
#include "observe/mapped_bytes.hpp"

#include "observe/trace_access.hpp"
#include "rules/match.hpp"

#include <algorithm>

namespace vfio_shim::observe {

std::vector<MappedBytes::Change> MappedBytes::follow(const trace::Record &record) {
  if (record.error != 0)
    return {};
  if (record.kind == trace::Kind::close)
    return record.of_group != 0 ? leave(record.file) : std::vector<Change>{};
  if (record.kind != trace::Kind::call)
    return {};
  const Bytes mapped = containers_[record.file].mapped;
  using Changes = std::vector<Change>;
  return rules::match(
      trace::answer_of(record),
      [&](const rules::SetContainer & /*call*/) {
        containers_[record.other].groups.insert(record.file);
        return Changes{};
      },
      [&](const rules::UnsetContainer & /*call*/) { return leave(record.file); },
      [&](const rules::MapDma &map) {
        return map.vaddr_only() ? Changes{} : set(record.file, mapped + map.size);
      },
      [&](const rules::UnmapDma &unmap) {
        return unmap.vaddr_only()
                   ? Changes{}
                   : set(record.file, Bytes{mapped.value - std::min(mapped, unmap.size).value});
      },
      [](const auto & /*other*/) { return Changes{}; });
}

std::vector<MappedBytes::Change> MappedBytes::set(std::uint32_t container, Bytes bytes) {
  containers_[container].mapped = bytes;
  return {{.container = container, .bytes = bytes}};
}

std::vector<MappedBytes::Change> MappedBytes::leave(std::uint32_t group) {
  for (auto &[number, container] : containers_)
    if (container.groups.erase(group) != 0 && container.groups.empty() &&
        container.mapped.value != 0)
      return set(number, Bytes{});
  return {};
}

} // namespace vfio_shim::observe
