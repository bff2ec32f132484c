// SPDX-License-Identifier: MIT
#include "backend/kernel_container.hpp"

#include "abi/vfio.hpp"
#include "backend/ioctl.hpp"

#include <cstring>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include "bitmap.hpp"

namespace vfio_shim {

namespace {

/// VFIO_IOMMU_GET_INFO with its whole capability chain.
Result<std::vector<std::byte>> read_info(const Fd &container) {
  std::vector<std::byte> answer(sizeof(vfio_iommu_type1_info));
  for (;;) {
    vfio_iommu_type1_info info{};
    info.argsz = static_cast<std::uint32_t>(answer.size());
    std::memcpy(answer.data(), &info, sizeof(info));
    VFIO_SHIM_TRY(run_ioctl(container, VFIO_IOMMU_GET_INFO, answer.data(),
                            "the kernel's VFIO_IOMMU_GET_INFO"));
    std::memcpy(&info, answer.data(), sizeof(info));
    if (info.argsz <= answer.size())
      return answer;
    answer.resize(info.argsz);
  }
}

template <typename Struct>
Struct read_at(std::span<const std::byte> bytes, std::size_t offset) {
  // Clang initializes no struct with an array at its end.
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init)
  Struct object;
  std::memset(&object, 0, sizeof(object));
  if (offset + sizeof(object) <= bytes.size())
    std::memcpy(&object, bytes.data() + offset, sizeof(object));
  return object;
}

/// The ranges of the chain's VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE.
std::vector<IovaRange> usable_ranges(std::span<const std::byte> answer) {
  std::vector<IovaRange> usable;
  std::size_t at = read_at<vfio_iommu_type1_info>(answer, 0).cap_offset;
  while (at != 0) {
    const auto header = read_at<vfio_info_cap_header>(answer, at);
    if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
      const auto ranges = read_at<vfio_iommu_type1_info_cap_iova_range>(answer, at);
      at += sizeof(ranges);
      for (std::uint32_t i = 0; i < ranges.nr_iovas; ++i, at += sizeof(vfio_iova_range)) {
        const auto range = read_at<vfio_iova_range>(answer, at);
        usable.push_back({Iova{range.start}, Iova{range.end}});
      }
      return usable;
    }
    at = header.next;
  }
  return usable;
}

} // namespace

Result<KeptFile> KernelContainer::open(const std::filesystem::path &node, FileStore &store) {
  Fd file{::open(node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!file)
    return fail_errno(node);
  return KeptFile::keep(std::move(file), store);
}

Result<KeptFile> KernelContainer::adopt_file(const BackendState &state, FileStore &store) {
  KeptFile kept = KeptFile::adopt(state.file, store);
  if (!kept)
    return fail(ENOENT, "the kernel's container has not been kept");
  return kept;
}

void KernelContainer::adopt(const topology::Roots &roots, const BackendState &state,
                            const BackendTerms &terms) {
  // Set, but not noted: the one before may have died between the two.
  iommu_set_ = terms.attached || read_info(container_);
  for (const BackendState::Group &group : state.groups) {
    KeptFile file = KeptFile::adopt(group.file, *store_);
    if (!file)
      continue;
    ClaimedGroup &claimed = claimed_[group.id];
    claimed.file = std::move(file);
    if (auto present = topology::find(group.id, roots))
      claimed.devices = std::move(present->devices);
    for (const BackendState::Device &device : group.devices)
      claimed.given.insert(device.name);
    rejoin(claimed);
  }
}

/// A group that had just left comes back, for its client's VFIO_GROUP_UNSET_CONTAINER comes again.
/// The mappings have gone with it, if it was the last one.
void KernelContainer::rejoin(const ClaimedGroup &group) {
  vfio_group_status status{};
  status.argsz = sizeof(status);
  if (::ioctl(group.file.file().get(), VFIO_GROUP_GET_STATUS, &status) != 0 ||
      (status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET) != 0)
    return;
  const int container = container_.get();
  ::ioctl(group.file.file().get(), VFIO_GROUP_SET_CONTAINER, &container);
  if (iommu_set_)
    ::ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU); // EINVAL: it is set still.
}

BackendState KernelContainer::describe() const {
  BackendState state{.file = file_.number()};
  for (const auto &[id, group] : claimed_) {
    auto &described =
        state.groups.emplace_back(BackendState::Group{.id = id, .file = group.file.number()});
    for (const std::string &name : group.given)
      described.devices.push_back({.name = name});
  }
  return state;
}

KernelContainer::~KernelContainer() {
  if (iommu_set_)
    (void)unmap({Iova{0}, Iova{UINT64_MAX}});
}

Result<void> KernelContainer::claim(const topology::Group &group) {
  const std::filesystem::path node = topology::kernel_node(std::to_string(group.id.value), roots_);
  Fd file{::open(node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!file) // EBUSY: the group, or a cdev of it, is open elsewhere. Claiming it is EPERM then.
    return fail(errno == EBUSY ? EPERM : errno, node);
  int container = container_.get();
  VFIO_SHIM_TRY(run_ioctl(file, VFIO_GROUP_SET_CONTAINER, &container,
                          "the kernel's VFIO_GROUP_SET_CONTAINER"));
  auto kept = KeptFile::keep(std::move(file), *store_);
  if (!kept)
    return pass_on(kept);
  claimed_.insert_or_assign(
      group.id, ClaimedGroup{.file = std::move(*kept), .devices = group.devices, .given = {}});
  note_change();
  return {};
}

/// A group that joins later is attached by VFIO_GROUP_SET_CONTAINER itself.
Result<void> KernelContainer::attach_claimed() {
  if (iommu_set_)
    return {};
  // Mappings come and go as a whole here, so v2's rules do for both versions.
  if (::ioctl(container_.get(), VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0)
    return fail_errno("the kernel's VFIO_SET_IOMMU");
  iommu_set_ = true;
  return {};
}

/// The group's file holds the group, and keeps no device.
void KernelContainer::follow(const topology::Group & /*present*/) {}

void KernelContainer::release(GroupId group) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return;
  // EBUSY: a device is open at the client. The group leaves when that is closed.
  ::ioctl(found->second.file.file().get(), VFIO_GROUP_UNSET_CONTAINER);
  claimed_.erase(found);
  note_change();
}

Result<AddressSpace> KernelContainer::address_space() {
  const auto answer = read_info(container_);
  if (!answer)
    return pass_on(answer);
  const int coherent = ::ioctl(container_.get(), VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU);
  return AddressSpace{.usable = usable_ranges(*answer),
                      .page_sizes = read_at<vfio_iommu_type1_info>(*answer, 0).iova_pgsizes,
                      .coherent = coherent == 1};
}

Result<void> KernelContainer::map(Client &client, const MapRequest &request) {
  vfio_iommu_type1_dma_map map{};
  map.argsz = sizeof(map);
  map.flags = (request.access.read ? VFIO_DMA_MAP_FLAG_READ : 0U) |
              (request.access.write ? VFIO_DMA_MAP_FLAG_WRITE : 0U);
  map.vaddr = request.vaddr.value;
  map.iova = request.iova.value;
  map.size = request.size.value;
  // Of no use to the kernel here, but a recording says what memory it was, and takes the same time
  // about it, on every backend.
  (void)client.memory_parts(request.vaddr, request.size, request.access);
  auto mapped = map_in_client(client, container_, Lending::openly, VFIO_IOMMU_MAP_DMA,
                              std::as_bytes(std::span(&map, 1)));
  // A client that died may have mapped it: the outcome is not known.
  if (!mapped && mapped.error().code == ESRCH)
    (void)unmap({request.iova, Iova{request.iova.value + request.size.value - 1}});
  return mapped;
}

Result<void> KernelContainer::unmap(IovaRange range) {
  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  if (range.first.value == 0 && range.last.value == UINT64_MAX) {
    unmap.flags = VFIO_DMA_UNMAP_FLAG_ALL;
  } else {
    unmap.iova = range.first.value;
    unmap.size = range.last.value - range.first.value + 1;
  }
  return run_ioctl(container_, VFIO_IOMMU_UNMAP_DMA, &unmap, "the kernel's VFIO_IOMMU_UNMAP_DMA");
}

Result<void> KernelContainer::track_dirty(bool on) {
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof(request);
  request.flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
  return run_ioctl(container_, VFIO_IOMMU_DIRTY_PAGES, &request,
                   "the kernel's VFIO_IOMMU_DIRTY_PAGES");
}

/// type1 asks no IOMMU: to it, every page that a device can reach is dirty.
Result<void> KernelContainer::report_dirty(IovaRange range, Bytes page_size, AfterReport /*after*/,
                                           std::span<std::uint64_t> bitmap) {
  set_first_bits(bitmap, (range.last - range.first).value / page_size.value + 1);
  return {};
}

Result<std::vector<Fd>> KernelContainer::open_one_of_each_group() {
  std::vector<Fd> opened;
  for (const auto &[id, group] : claimed_)
    for (const topology::Device &device : group.devices) {
      Fd file{::ioctl(group.file.file().get(), VFIO_GROUP_GET_DEVICE_FD, device.name.c_str())};
      if (!file && errno == ENODEV)
        continue; // Unplugged.
      if (!file)
        return fail_errno("the kernel's VFIO_GROUP_GET_DEVICE_FD");
      opened.push_back(std::move(file));
      break;
    }
  return opened;
}

Result<Fd> KernelContainer::open_device(GroupId group, const topology::Device &device) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return fail(EINVAL, fmt::format("group {} is not claimed", group.value));
  Fd file{::ioctl(found->second.file.file().get(), VFIO_GROUP_GET_DEVICE_FD, device.name.c_str())};
  if (!file)
    return fail_errno("the kernel's VFIO_GROUP_GET_DEVICE_FD");
  found->second.given.insert(device.name);
  note_change();
  return file;
}

/// The backend keeps no descriptor of a device.
void KernelContainer::given_away(GroupId /*group*/, std::string_view /*name*/) {}

std::vector<std::string> KernelContainer::open_devices(GroupId group) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return {};
  return {found->second.given.begin(), found->second.given.end()};
}

const Fd *KernelContainer::file_of(GroupId group) const {
  const auto found = claimed_.find(group);
  return found == claimed_.end() ? nullptr : &found->second.file.file();
}

} // namespace vfio_shim
