// SPDX-License-Identifier: MIT
#include "container.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <ostream>
#include <stdexcept>
#include <string>

#include <fcntl.h>

#include "memory.h"

namespace legacy {
namespace {

/// Reads a T at `offset` of `buffer`; throws std::runtime_error when it does not fit.
template <typename T>
T read_at(const std::vector<std::byte> &buffer, std::size_t offset) {
  if (offset > buffer.size() || buffer.size() - offset < sizeof(T))
    throw std::runtime_error{"GET_INFO: something at offset " + std::to_string(offset) +
                             " reaches beyond argsz " + std::to_string(buffer.size())};
  T value;
  std::memcpy(&value, buffer.data() + offset, sizeof(T));
  return value;
}

std::vector<IovaRange> read_iova_ranges(const std::vector<std::byte> &buffer, std::size_t offset) {
  const auto head = read_at<vfio_iommu_type1_info_cap_iova_range>(buffer, offset);
  std::vector<IovaRange> ranges;
  for (std::uint32_t i = 0; i < head.nr_iovas; ++i) {
    const std::size_t at = offset + sizeof(head) + i * sizeof(vfio_iova_range);
    const auto range = read_at<vfio_iova_range>(buffer, at);
    ranges.push_back({{range.start}, {range.end}});
  }
  return ranges;
}

IommuInfo::Migration read_migration(const std::vector<std::byte> &buffer, std::size_t offset) {
  const auto cap = read_at<vfio_iommu_type1_info_cap_migration>(buffer, offset);
  return {cap.flags, cap.pgsize_bitmap, {cap.max_dirty_bitmap_size}};
}

void read_capability(IommuInfo &info, const std::vector<std::byte> &buffer,
                     const IommuInfo::Capability &capability) {
  switch (capability.id) {
  case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
    info.iova_ranges = read_iova_ranges(buffer, capability.offset);
    break;
  case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
    info.migration = read_migration(buffer, capability.offset);
    break;
  case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
    info.dma_available = read_at<vfio_iommu_type1_info_dma_avail>(buffer, capability.offset).avail;
    break;
  default:
    throw std::runtime_error{"GET_INFO: unknown capability " + std::to_string(capability.id)};
  }
}

vfio_bitmap bitmap_argument(std::span<std::uint64_t> bitmap, Bytes page_size) {
  vfio_bitmap argument{};
  argument.pgsize = page_size.count;
  argument.size = bitmap.size_bytes();
  argument.data = reinterpret_cast<__u64 *>(bitmap.data());
  return argument;
}

/// One argument after the other, as ioctls with a variable tail take them.
template <typename Head, typename Tail>
std::array<std::byte, sizeof(Head) + sizeof(Tail)> joined(const Head &head, const Tail &tail) {
  std::array<std::byte, sizeof(Head) + sizeof(Tail)> both;
  std::memcpy(both.data(), &head, sizeof(Head));
  std::memcpy(both.data() + sizeof(Head), &tail, sizeof(Tail));
  return both;
}

} // namespace

std::ostream &operator<<(std::ostream &out, const IovaRange &range) {
  return out << std::hex << "[0x" << range.first.address << ", 0x" << range.last.address << "]"
             << std::dec;
}

IommuInfo IommuInfo::parse(const std::vector<std::byte> &buffer) {
  const auto head = read_at<vfio_iommu_type1_info>(buffer, 0);
  IommuInfo info;
  info.argsz = head.argsz;
  info.flags = head.flags;
  info.page_sizes = head.iova_pgsizes;
  std::uint32_t offset = head.flags & VFIO_IOMMU_INFO_CAPS ? head.cap_offset : 0;
  while (offset != 0) {
    if (offset % sizeof(std::uint64_t) != 0)
      throw std::runtime_error{"GET_INFO: capability at unaligned offset " +
                               std::to_string(offset)};
    const auto header = read_at<vfio_info_cap_header>(buffer, offset);
    info.capabilities.push_back({header.id, header.version, offset});
    read_capability(info, buffer, info.capabilities.back());
    if (header.next != 0 && header.next <= offset)
      throw std::runtime_error{"GET_INFO: the capability chain goes back"};
    offset = header.next;
  }
  return info;
}

Container::Container(const Provider &provider) : fd_{Fd::open(provider.container, O_RDWR)} {}

Answer Container::api_version() const {
  return fd_.ioctl(VFIO_GET_API_VERSION);
}

Answer Container::check_extension(unsigned long extension) const {
  return fd_.ioctl(VFIO_CHECK_EXTENSION, extension);
}

Answer Container::set_iommu(IommuType type) const {
  return set_iommu(static_cast<unsigned long>(type));
}

Answer Container::set_iommu(unsigned long type) const {
  return fd_.ioctl(VFIO_SET_IOMMU, type);
}

IommuInfo Container::info() const {
  vfio_iommu_type1_info head{};
  head.argsz = sizeof(head);
  fd_.ioctl(VFIO_IOMMU_GET_INFO, &head).or_throw("VFIO_IOMMU_GET_INFO for the size");
  std::vector<std::byte> buffer(head.argsz);
  head = {};
  head.argsz = static_cast<std::uint32_t>(buffer.size());
  std::memcpy(buffer.data(), &head, sizeof(head));
  fd_.ioctl(VFIO_IOMMU_GET_INFO, buffer.data()).or_throw("VFIO_IOMMU_GET_INFO");
  return IommuInfo::parse(buffer);
}

Answer Container::map(Iova iova, const void *vaddr, Bytes size, Access access) const {
  auto request = map_request(iova, vaddr, size, access);
  return fd_.ioctl(VFIO_IOMMU_MAP_DMA, &request);
}

Answer Container::map(Iova iova, const Memory &memory, Access access) const {
  return map(iova, memory.data(), memory.size(), access);
}

Answer Container::unmap(Iova iova, Bytes size, std::uint32_t flags) const {
  auto request = unmap_request(iova, size, flags);
  const Answer answer = fd_.ioctl(VFIO_IOMMU_UNMAP_DMA, &request);
  return answer == succeeds ? unmaps({request.size}) : answer;
}

Answer Container::unmap_all() const {
  return unmap({0}, {0}, VFIO_DMA_UNMAP_FLAG_ALL);
}

Answer Container::dirty_pages(std::uint32_t flags) const {
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof(request);
  request.flags = flags;
  return fd_.ioctl(VFIO_IOMMU_DIRTY_PAGES, &request);
}

Answer Container::dirty_bitmap(Iova iova, Bytes size, std::span<std::uint64_t> bitmap,
                               Bytes page_size) const {
  vfio_iommu_type1_dirty_bitmap head{};
  vfio_iommu_type1_dirty_bitmap_get range{};
  head.argsz = sizeof(head) + sizeof(range);
  head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  range.iova = iova.address;
  range.size = size.count;
  range.bitmap = bitmap_argument(bitmap, page_size);
  return fd_.ioctl(VFIO_IOMMU_DIRTY_PAGES, joined(head, range).data());
}

Answer Container::unmap_with_dirty_bitmap(Iova iova, Bytes size, std::span<std::uint64_t> bitmap,
                                          Bytes page_size) const {
  auto head = unmap_request(iova, size, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  head.argsz = sizeof(head) + sizeof(vfio_bitmap);
  auto request = joined(head, bitmap_argument(bitmap, page_size));
  const Answer answer = fd_.ioctl(VFIO_IOMMU_UNMAP_DMA, request.data());
  std::memcpy(&head, request.data(), sizeof(head));
  return answer == succeeds ? unmaps({head.size}) : answer;
}

Answer Container::invalidate_vaddr(Iova iova, Bytes size) const {
  return unmap(iova, size, VFIO_DMA_UNMAP_FLAG_VADDR);
}

Answer Container::update_vaddr(Iova iova, const void *vaddr, Bytes size) const {
  auto request = map_request(iova, vaddr, size, Access::None);
  request.flags = VFIO_DMA_MAP_FLAG_VADDR;
  return fd_.ioctl(VFIO_IOMMU_MAP_DMA, &request);
}

vfio_iommu_type1_dma_map map_request(Iova iova, const void *vaddr, Bytes size, Access access) {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof(request);
  request.flags = static_cast<std::uint32_t>(access);
  request.vaddr = reinterpret_cast<std::uint64_t>(vaddr);
  request.iova = iova.address;
  request.size = size.count;
  return request;
}

vfio_iommu_type1_dma_unmap unmap_request(Iova iova, Bytes size, std::uint32_t flags) {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof(request);
  request.flags = flags;
  request.iova = iova.address;
  request.size = size.count;
  return request;
}

} // namespace legacy
