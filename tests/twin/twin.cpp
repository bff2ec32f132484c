// SPDX-License-Identifier: MIT
#include "twin.h"

#include "rules/operations.hpp"

#include <algorithm>
#include <cstring>
#include <ostream>
#include <stdexcept>

#include <fcntl.h>
#include <linux/vfio.h>

namespace twin {
namespace {

using legacy::Answer;
using legacy::Fd;
using legacy::succeeds;

const Outcome no_trace{succeeds, {}, {}};

/// A struct that says how large it is, with as much behind it as it says, within reason.
std::vector<std::byte> sized_argument(std::uint32_t argsz, std::size_t least) {
  std::vector<std::byte> bytes(std::clamp<std::size_t>(argsz, least, 1024));
  std::memcpy(bytes.data(), &argsz, sizeof(argsz));
  return bytes;
}

rules::UnmapDma unmap_call(const UnmapDma &operation) {
  return {.argsz = operation.envelope.argsz,
          .flags = operation.flags,
          .iova = vfio_shim::Iova{operation.iova},
          .size = vfio_shim::Bytes{operation.size},
          .bitmap = {}};
}

void print(std::ostream &out, const char *what, const Changes &changes) {
  if (changes.empty())
    return;
  out << ", and changes its " << what << " from byte " << changes.begin()->first << ":" << std::hex;
  for (const auto &[offset, byte] : changes)
    out << " " << std::to_integer<int>(byte);
  out << std::dec;
}

} // namespace

std::ostream &operator<<(std::ostream &out, const Outcome &outcome) {
  out << outcome.answer;
  print(out, "argument", outcome.argument);
  print(out, "bitmap", outcome.bitmap);
  return out;
}

Twin::Twin(legacy::Provider provider, Devices devices)
    : provider_{std::move(provider)},
      devices_{std::move(devices)},
      other_file_{Fd::open("/dev/null", O_RDWR)} {}

std::optional<Outcome> Twin::carry_out(const Operation &operation) {
  return std::visit([this](const auto &op) { return run(op); }, operation);
}

void Twin::start_anew() {
  for (Group &group : groups_) {
    group.edu.reset();
    group.devices.clear();
    group.fd.close();
  }
  for (Fd &container : containers_)
    container.close();
  memory_.reset();
}

Twin::Done Twin::run(const OpenContainer &operation) {
  Fd &slot = containers_[operation.container];
  if (slot.is_open())
    return {};
  slot = Fd::open(provider_.container, O_RDWR);
  return no_trace;
}

Twin::Done Twin::run(const CloseContainer &operation) {
  Fd &slot = containers_[operation.container];
  if (!slot.is_open())
    return {};
  slot.close();
  return no_trace;
}

Twin::Done Twin::run(const OpenGroup &operation) {
  const std::string path = provider_.group_path(devices_[operation.group].group);
  const Answer opened = Answer::of(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!opened.ok())
    return Outcome{opened, {}, {}};
  Fd fd{static_cast<int>(opened.value())};
  if (Fd &slot = groups_[operation.group].fd; !slot.is_open())
    slot = std::move(fd);
  return no_trace;
}

Twin::Done Twin::run(const CloseGroup &operation) {
  Fd &slot = groups_[operation.group].fd;
  if (!slot.is_open())
    return {};
  slot.close();
  return no_trace;
}

Twin::Done Twin::run(const SetContainer &operation) {
  if (operation.file == SetContainer::File::Container &&
      !containers_[operation.container].is_open())
    return {};
  return call(groups_[operation.group].fd, VFIO_GROUP_SET_CONTAINER,
              rules::encode(rules::SetContainer{vfio_shim::ClientFd{descriptor(operation)}}),
              operation.place);
}

Twin::Done Twin::run(const UnsetContainer &operation) {
  return call(groups_[operation.group].fd, VFIO_GROUP_UNSET_CONTAINER, {}, Place::Null);
}

Twin::Done Twin::run(const GetStatus &operation) {
  return call(groups_[operation.group].fd, VFIO_GROUP_GET_STATUS,
              rules::encode(rules::GetStatus{.argsz = operation.envelope.argsz}),
              operation.envelope.place);
}

Twin::Done Twin::run(const GetDeviceFd &operation) {
  Group &group = groups_[operation.group];
  auto done = call(group.fd, VFIO_GROUP_GET_DEVICE_FD,
                   rules::encode(rules::GetDeviceFd{device_name(operation)}), operation.place);
  if (!done || !done->answer.ok())
    return done;
  Fd fd{static_cast<int>(done->answer.value())};
  done->answer = Answer::of(::fcntl(fd.number(), F_GETFD)); // Its number is anybody's.
  if (group.devices.size() < most_opened)
    group.devices.emplace_back(std::move(fd));
  return done;
}

Twin::Done Twin::run(const CloseDevice &operation) {
  Group &group = groups_[operation.group];
  if (group.devices.empty())
    return {};
  group.edu.reset(); // Its mapping would keep the device open.
  group.devices.pop_back();
  return no_trace;
}

Twin::Done Twin::run(const GroupCall &operation) {
  constexpr std::uint32_t size = 64;
  return call(groups_[operation.group].fd, operation.request, sized_argument(size, size),
              operation.place);
}

Twin::Done Twin::run(const DeviceCall &operation) {
  const Group &group = groups_[operation.group];
  if (group.devices.empty())
    return {};
  constexpr std::size_t least = 16;
  return call(group.devices.front().fd(), operation.request,
              sized_argument(operation.envelope.argsz, least), operation.envelope.place);
}

Twin::Done Twin::run(const CheckExtension &operation) {
  const Fd &container = containers_[operation.container];
  if (!container.is_open())
    return {};
  return Outcome{container.ioctl(VFIO_CHECK_EXTENSION, operation.extension), {}, {}};
}

Twin::Done Twin::run(const SetIommu &operation) {
  const Fd &container = containers_[operation.container];
  if (!container.is_open())
    return {};
  return Outcome{container.ioctl(VFIO_SET_IOMMU, operation.type), {}, {}};
}

Twin::Done Twin::run(const GetInfo &operation) {
  const std::size_t whole = rules::encode(rules::GetInfo{}).size();
  return call(containers_[operation.container], VFIO_IOMMU_GET_INFO,
              sized_argument(operation.envelope.argsz, whole), operation.envelope.place);
}

Twin::Done Twin::run(const MapDma &operation) {
  const rules::MapDma map{.argsz = operation.envelope.argsz,
                          .flags = operation.flags,
                          .vaddr = vfio_shim::ClientAddr{address(operation.memory)},
                          .iova = vfio_shim::Iova{operation.iova},
                          .size = vfio_shim::Bytes{operation.size}};
  return call(containers_[operation.container], VFIO_IOMMU_MAP_DMA, rules::encode(map),
              operation.envelope.place);
}

Twin::Done Twin::run(const UnmapDma &operation) {
  return call(containers_[operation.container], VFIO_IOMMU_UNMAP_DMA,
              rules::encode(unmap_call(operation)), operation.envelope.place);
}

Twin::Done Twin::run(const UnmapGettingDirty &operation) {
  auto unmap = unmap_call(operation.unmap);
  unmap.bitmap = place(operation.bitmap);
  return with_bitmap(call(containers_[operation.unmap.container], VFIO_IOMMU_UNMAP_DMA,
                          rules::encode(unmap), operation.unmap.envelope.place));
}

Twin::Done Twin::run(const DirtyPages &operation) {
  const rules::DirtyPages dirty{
      .argsz = operation.envelope.argsz, .flags = operation.flags, .range = {}};
  return call(containers_[operation.container], VFIO_IOMMU_DIRTY_PAGES, rules::encode(dirty),
              operation.envelope.place);
}

Twin::Done Twin::run(const DirtyBitmap &operation) {
  const rules::DirtyPages dirty{
      .argsz = operation.envelope.argsz,
      .flags = operation.flags,
      .range = rules::DirtyPages::Range{.iova = vfio_shim::Iova{operation.iova},
                                        .size = vfio_shim::Bytes{operation.size},
                                        .bitmap = place(operation.bitmap)}};
  return with_bitmap(call(containers_[operation.container], VFIO_IOMMU_DIRTY_PAGES,
                          rules::encode(dirty), operation.envelope.place));
}

Twin::Done Twin::run(const ContainerCall &operation) {
  constexpr std::uint32_t size = 64;
  return call(containers_[operation.container], operation.request, sized_argument(size, size),
              operation.place);
}

Twin::Done Twin::run(const CopyByDma &operation) {
  Group &group = groups_[operation.group];
  if (group.devices.empty())
    return {};
  if (!group.edu)
    group.edu.emplace(group.devices.front());
  memory_.written_by_dma();
  group.edu->fetch({operation.from}, legacy::Edu::largest_transfer);
  group.edu->store({operation.to}, legacy::Edu::largest_transfer);
  return no_trace;
}

Twin::Done Twin::run(const WriteMemory &operation) {
  return Outcome{memory_.write(operation.page, operation.seed), {}, {}};
}

Twin::Done Twin::run(const ChangeMemory &operation) {
  return Outcome{memory_.change(operation.page, operation.count, operation.protection), {}, {}};
}

Twin::Done Twin::call(const Fd &fd, unsigned long request, std::span<const std::byte> argument,
                      Place place) {
  if (!fd.is_open())
    return {};
  void *pointer = argument_.put(argument, place);
  const Answer answer = fd.ioctl(request, pointer);
  return Outcome{answer, argument_.changes(), {}};
}

/// Puts a dirty bitmap where it is to lie, and describes it.
rules::Bitmap Twin::place(const Bitmap &bitmap) {
  constexpr std::size_t most = 512;
  const std::vector<std::byte> empty(std::min<std::size_t>(bitmap.size, most));
  const void *data = bitmap_.put(empty, bitmap.place);
  return {.page_size = vfio_shim::Bytes{bitmap.page_size},
          .size = vfio_shim::Bytes{bitmap.size},
          .address = vfio_shim::ClientAddr{reinterpret_cast<std::uint64_t>(data)}};
}

/// Adds what has become of the bitmap that was placed last.
Twin::Done Twin::with_bitmap(Done done) const {
  if (done)
    done->bitmap = bitmap_.changes();
  return done;
}

int Twin::descriptor(const SetContainer &operation) const {
  switch (operation.file) {
  case SetContainer::File::Container:
    return containers_[operation.container].number();
  case SetContainer::File::OtherFile:
    return other_file_.number();
  case SetContainer::File::OwnGroup:
    return groups_[operation.group].fd.number();
  case SetContainer::File::Minus1:
    return -1;
  }
  throw std::logic_error{"no such file"};
}

std::string Twin::device_name(const GetDeviceFd &operation) const {
  using Name = GetDeviceFd::Name;
  const std::string &right = devices_[operation.group].address;
  switch (operation.device) {
  case Name::Right:
    return right;
  case Name::Absent:
    return "0000:ff:1f.7";
  case Name::OtherGroups:
    return devices_[slots - 1 - operation.group].address;
  case Name::Empty:
    return "";
  case Name::Short:
    return right.substr(0, right.size() - 1);
  case Name::Longer:
    return right + "0";
  case Name::Space:
    return right + " ";
  case Name::Token:
    return right + " vf_token=00112233-4455-6677-8899-aabbccddeeff";
  case Name::Options:
    return right + " unknown=1";
  }
  throw std::logic_error{"no such name"};
}

std::uint64_t Twin::address(const MemoryAt &memory) const {
  using Base = MemoryAt::Base;
  const auto base = [&]() -> std::uint64_t {
    switch (memory.base) {
    case Base::Pool:
      return reinterpret_cast<std::uint64_t>(memory_.page(0));
    case Base::Zero:
    case Base::Top:
      return 0;
    case Base::Kernel:
      return 0xffff888000000000;
    }
    throw std::logic_error{"no such place"};
  }();
  return base + static_cast<std::uint64_t>(memory.page) * legacy::page.count + memory.byte;
}

} // namespace twin
