#include "observe/mapped_bytes.hpp"

#include "observe/trace_access.hpp"

#include <algorithm>

#include <linux/vfio.h>

namespace vfio_shim::observe {

std::vector<MappedBytes::Change> MappedBytes::follow(const trace::Record &record) {
  if (record.error != 0)
    return {};
  if (record.kind == trace::Kind::close)
    return record.of_group != 0 ? leave(record.file) : std::vector<Change>{};
  if (record.kind != trace::Kind::call)
    return {};
  const Bytes mapped = containers_[record.file].mapped;
  switch (record.command) {
  case VFIO_GROUP_SET_CONTAINER:
    containers_[record.other].groups.insert(record.file);
    return {};
  case VFIO_GROUP_UNSET_CONTAINER:
    return leave(record.file);
  case VFIO_IOMMU_MAP_DMA: {
    const auto map = trace::argument_of<vfio_iommu_type1_dma_map>(record);
    if ((map.flags & VFIO_DMA_MAP_FLAG_VADDR) != 0)
      return {};
    return set(record.file, mapped + Bytes{map.size});
  }
  case VFIO_IOMMU_UNMAP_DMA: {
    const auto unmap = trace::answer_of<vfio_iommu_type1_dma_unmap>(record);
    if ((unmap.flags & VFIO_DMA_UNMAP_FLAG_VADDR) != 0)
      return {};
    return set(record.file,
               Bytes{mapped.value - std::min(mapped.value, std::uint64_t{unmap.size})});
  }
  default:
    return {};
  }
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
