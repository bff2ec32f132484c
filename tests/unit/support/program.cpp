// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <stdexcept>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::test {

namespace {

std::uint64_t inode_of(const Fd &file) {
  struct stat status {};
  while (::fstat(file.get(), &status) != 0 && errno == EFAULT) {
    // Only where a test lets a copy fail, which is not to be this one.
  }
  return status.st_ino;
}

/// Reads a T at @p offset of @p bytes.
template <typename T>
T at(std::span<const std::byte> bytes, std::size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
    throw std::runtime_error("GET_INFO: offset " + std::to_string(offset) + " is beyond its " +
                             std::to_string(bytes.size()) + " bytes");
  T object;
  std::memcpy(&object, bytes.data() + offset, sizeof(object));
  return object;
}

std::vector<IovaRange> ranges_at(std::span<const std::byte> bytes, std::size_t offset) {
  const auto head = at<vfio_iommu_type1_info_cap_iova_range>(bytes, offset);
  std::vector<IovaRange> ranges;
  for (std::size_t i = 0; i < head.nr_iovas; ++i) {
    const auto range =
        at<vfio_iova_range>(bytes, offset + sizeof(head) + i * sizeof(vfio_iova_range));
    ranges.push_back({Iova{range.start}, Iova{range.end}});
  }
  return ranges;
}

void read_capability(IommuInfo &info, std::span<const std::byte> bytes,
                     const IommuInfo::Link &link) {
  switch (link.id) {
  case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
    info.usable = ranges_at(bytes, link.offset);
    return;
  case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
    info.migration = at<vfio_iommu_type1_info_cap_migration>(bytes, link.offset);
    return;
  case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
    info.available = at<vfio_iommu_type1_info_dma_avail>(bytes, link.offset).avail;
    return;
  default:
    throw std::runtime_error("GET_INFO: unknown capability " + std::to_string(link.id));
  }
}

} // namespace

vfio_iommu_type1_dma_map map_request(Iova iova, ClientAddr vaddr, Bytes size, std::uint32_t flags) {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof(request);
  request.flags = flags;
  request.vaddr = vaddr.value;
  request.iova = iova.value;
  request.size = size.value;
  return request;
}

vfio_iommu_type1_dma_unmap unmap_request(Iova iova, Bytes size, std::uint32_t flags) {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof(request);
  request.flags = flags;
  request.iova = iova.value;
  request.size = size.value;
  return request;
}

vfio_bitmap bitmap_argument(ClientAddr address, std::uint64_t size) {
  vfio_bitmap bitmap{};
  bitmap.pgsize = page_size;
  bitmap.size = size;
  bitmap.data = reinterpret_cast<decltype(bitmap.data)>(address.value);
  return bitmap;
}

IommuInfo IommuInfo::parse(std::span<const std::byte> bytes) {
  IommuInfo info;
  info.head = at<vfio_iommu_type1_info>(bytes, 0);
  std::uint32_t offset = info.head.cap_offset;
  while (offset != 0) {
    if (offset % 8 != 0)
      throw std::runtime_error("GET_INFO: capability at " + std::to_string(offset));
    const auto header = at<vfio_info_cap_header>(bytes, offset);
    info.chain.push_back({header.id, header.version, offset});
    read_capability(info, bytes, info.chain.back());
    if (header.next != 0 && header.next <= offset)
      throw std::runtime_error("GET_INFO: the chain goes back");
    offset = header.next;
  }
  return info;
}

void ContainerFile::close() {
  container_.reset();
  file_.reset();
}

Answer ContainerFile::call(unsigned int command, std::uint64_t argument) {
  return answer_of(container_->call(*client_, command, argument));
}

Answer ContainerFile::call(unsigned int command, const void *argument) {
  return call(command, address_of(argument).value);
}

Answer ContainerFile::set_iommu(unsigned long type) {
  return call(VFIO_SET_IOMMU, type);
}

Answer ContainerFile::check_extension(unsigned long extension) {
  return call(VFIO_CHECK_EXTENSION, extension);
}

IommuInfo ContainerFile::info() {
  vfio_iommu_type1_info head{};
  head.argsz = sizeof(head);
  if (!call(VFIO_IOMMU_GET_INFO, &head).ok())
    throw std::runtime_error("GET_INFO for the size failed");
  std::vector<std::byte> bytes(head.argsz);
  std::memcpy(bytes.data(), &head, sizeof(head));
  if (!call(VFIO_IOMMU_GET_INFO, bytes.data()).ok())
    throw std::runtime_error("GET_INFO failed");
  return IommuInfo::parse(bytes);
}

Answer ContainerFile::map(Iova iova, ClientAddr vaddr, Bytes size, std::uint32_t flags) {
  const auto request = map_request(iova, vaddr, size, flags);
  return call(VFIO_IOMMU_MAP_DMA, &request);
}

Answer ContainerFile::unmap(Iova iova, Bytes size, std::uint32_t flags) {
  auto request = unmap_request(iova, size, flags); // Written to.
  const Answer answer = call(VFIO_IOMMU_UNMAP_DMA, &request);
  return answer == succeeds ? answers(static_cast<std::int64_t>(request.size)) : answer;
}

Answer ContainerFile::unmap_all() {
  return unmap(Iova{0}, Bytes{0}, VFIO_DMA_UNMAP_FLAG_ALL);
}

Answer ContainerFile::track_dirty(std::uint32_t flag) {
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof(request);
  request.flags = flag;
  return call(VFIO_IOMMU_DIRTY_PAGES, &request);
}

Answer ContainerFile::dirty_bitmap(Iova iova, Bytes size, const vfio_bitmap &bitmap) {
  vfio_iommu_type1_dirty_bitmap head{};
  vfio_iommu_type1_dirty_bitmap_get range{};
  head.argsz = sizeof(head) + sizeof(range);
  head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  range.iova = iova.value;
  range.size = size.value;
  range.bitmap = bitmap;
  return call(VFIO_IOMMU_DIRTY_PAGES, joined(head, range).data());
}

Answer ContainerFile::unmap_with_bitmap(Iova iova, Bytes size, const vfio_bitmap &bitmap) {
  auto head = unmap_request(iova, size, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  head.argsz = sizeof(head) + sizeof(bitmap);
  auto request = joined(head, bitmap);
  const Answer answer = call(VFIO_IOMMU_UNMAP_DMA, request.data());
  std::memcpy(&head, request.data(), sizeof(head));
  return answer == succeeds ? answers(static_cast<std::int64_t>(head.size)) : answer;
}

Answer GroupFile::call(unsigned int command, std::uint64_t argument) {
  return answer_of(group_->call(*client_, command, argument));
}

Answer GroupFile::call(unsigned int command, const void *argument) {
  return call(command, address_of(argument).value);
}

Answer GroupFile::status() {
  vfio_group_status status{.argsz = sizeof(status), .flags = 0};
  const Answer answer = call(VFIO_GROUP_GET_STATUS, &status);
  return answer == succeeds ? answers(status.flags) : answer;
}

Answer GroupFile::set_container(const ContainerFile &container) {
  return set_container(container.number());
}

Answer GroupFile::set_container(int number) {
  return call(VFIO_GROUP_SET_CONTAINER, &number);
}

Answer GroupFile::unset_container() {
  return call(VFIO_GROUP_UNSET_CONTAINER);
}

Answer GroupFile::device_number(const std::string &name) {
  return call(VFIO_GROUP_GET_DEVICE_FD, name.c_str());
}

Fd GroupFile::device(const std::string &name) {
  return Fd{static_cast<int>(device_number(name).value())};
}

Program::Program(ContainerOptions options, topology::Roots roots)
    : options_(std::move(options)),
      roots_(std::move(roots)),
      client_([this](const Fd &file) { return find_container(file); }) {}

ContainerFile Program::open_container() {
  Fd file{::memfd_create("container", MFD_CLOEXEC)};
  auto container = std::make_shared<Container>(options_, FileNumber{1}, client_.pid());
  containers_[inode_of(file)] = container;
  return {client_, std::move(container), std::move(file)};
}

GroupFile Program::open_group(GroupId id) {
  return {client_,
          std::make_unique<Group>(id, roots_, options_.ledger, FileNumber{2}, client_.pid())};
}

GroupFile Program::open_group_in(GroupId id, ContainerFile &container, unsigned long type) {
  GroupFile group = open_group(id);
  const Answer joined = group.set_container(container);
  const Answer set = container.set_iommu(type);
  if (!joined.ok() || !set.ok())
    throw std::runtime_error("group " + std::to_string(id.value) + " got no address space");
  return group;
}

std::shared_ptr<Container> Program::find_container(const Fd &file) {
  const auto found = containers_.find(inode_of(file));
  return found == containers_.end() ? nullptr : found->second.lock();
}

} // namespace vfio_shim::test
