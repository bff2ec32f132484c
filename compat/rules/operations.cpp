// SPDX-License-Identifier: MIT
#include "rules/operations.hpp"

#include "abi/vfio.hpp"
#include "rules/match.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace vfio_shim::rules {

namespace {

using ConstBytes = std::span<const std::byte>;

/// The object at @p offset; bytes that are not there are 0.
template <typename Struct>
Struct load(ConstBytes bytes, std::size_t offset = 0) {
  Struct object{};
  const auto there = bytes.subspan(std::min(offset, bytes.size()));
  std::memcpy(&object, there.data(), std::min(there.size(), sizeof(object)));
  return object;
}

template <typename Struct>
void put(const Struct &object, std::vector<std::byte> &bytes, std::size_t offset = 0) {
  bytes.resize(std::max(bytes.size(), offset + sizeof(object)));
  std::memcpy(bytes.data() + offset, &object, sizeof(object));
}

Bitmap bitmap_of(const vfio_bitmap &bitmap) {
  return {.page_size = Bytes{bitmap.pgsize},
          .size = Bytes{bitmap.size},
          .address = ClientAddr{reinterpret_cast<std::uintptr_t>(bitmap.data)}};
}

vfio_bitmap struct_of(const Bitmap &bitmap) {
  vfio_bitmap object{};
  object.pgsize = bitmap.page_size.value;
  object.size = bitmap.size.value;
  object.data = reinterpret_cast<decltype(object.data)>(bitmap.address.value);
  return object;
}

// --- What is behind a struct, and where.

constexpr std::size_t unmap_size = sizeof(vfio_iommu_type1_dma_unmap);
constexpr std::size_t whole_unmap_size = unmap_size + sizeof(vfio_bitmap);
constexpr std::size_t dirty_size = sizeof(vfio_iommu_type1_dirty_bitmap);
constexpr std::size_t whole_dirty_size = dirty_size + sizeof(vfio_iommu_type1_dirty_bitmap_get);

std::size_t whole_unmap(ConstBytes argument) {
  const auto flags = load<vfio_iommu_type1_dma_unmap>(argument).flags;
  return flags == VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP ? whole_unmap_size : unmap_size;
}

std::size_t whole_dirty(ConstBytes argument) {
  const auto flags = load<vfio_iommu_type1_dirty_bitmap>(argument).flags;
  return flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP ? whole_dirty_size : dirty_size;
}

// --- From bytes to values.

LegacyCall decode_api_version(std::uint64_t /*value*/, ConstBytes /*argument*/) {
  return GetApiVersion{};
}

LegacyCall decode_extension(std::uint64_t value, ConstBytes /*argument*/) {
  return CheckExtension{.extension = value};
}

LegacyCall decode_iommu(std::uint64_t value, ConstBytes /*argument*/) {
  return SetIommu{.type = value};
}

LegacyCall decode_info(std::uint64_t /*value*/, ConstBytes argument) {
  const auto info = load<vfio_iommu_type1_info>(argument);
  return GetInfo{.argsz = info.argsz,
                 .flags = info.flags,
                 .page_sizes = info.iova_pgsizes,
                 .capability_offset = info.cap_offset};
}

LegacyCall decode_map(std::uint64_t /*value*/, ConstBytes argument) {
  const auto map = load<vfio_iommu_type1_dma_map>(argument);
  return MapDma{.argsz = map.argsz,
                .flags = map.flags,
                .vaddr = ClientAddr{map.vaddr},
                .iova = Iova{map.iova},
                .size = Bytes{map.size}};
}

LegacyCall decode_unmap(std::uint64_t /*value*/, ConstBytes argument) {
  const auto unmap = load<vfio_iommu_type1_dma_unmap>(argument);
  UnmapDma call{.argsz = unmap.argsz,
                .flags = unmap.flags,
                .iova = Iova{unmap.iova},
                .size = Bytes{unmap.size},
                .bitmap = {}};
  if (argument.size() >= whole_unmap_size && whole_unmap(argument) == whole_unmap_size)
    call.bitmap = bitmap_of(load<vfio_bitmap>(argument, unmap_size));
  return call;
}

LegacyCall decode_dirty(std::uint64_t /*value*/, ConstBytes argument) {
  const auto dirty = load<vfio_iommu_type1_dirty_bitmap>(argument);
  DirtyPages call{.argsz = dirty.argsz, .flags = dirty.flags, .range = {}};
  if (argument.size() >= whole_dirty_size && whole_dirty(argument) == whole_dirty_size) {
    const auto range = load<vfio_iommu_type1_dirty_bitmap_get>(argument, dirty_size);
    call.range = {
        .iova = Iova{range.iova}, .size = Bytes{range.size}, .bitmap = bitmap_of(range.bitmap)};
  }
  return call;
}

LegacyCall decode_status(std::uint64_t /*value*/, ConstBytes argument) {
  const auto status = load<vfio_group_status>(argument);
  return GetStatus{.argsz = status.argsz, .flags = status.flags};
}

LegacyCall decode_container(std::uint64_t /*value*/, ConstBytes argument) {
  return SetContainer{.container = ClientFd{load<std::int32_t>(argument)}};
}

LegacyCall decode_unset(std::uint64_t /*value*/, ConstBytes /*argument*/) {
  return UnsetContainer{};
}

LegacyCall decode_device(std::uint64_t /*value*/, ConstBytes argument) {
  const auto end = std::ranges::find(argument, std::byte{0});
  GetDeviceFd call;
  call.text.resize(static_cast<std::size_t>(end - argument.begin()));
  std::memcpy(call.text.data(), argument.data(), call.text.size());
  return call;
}

// --- The table: what a struct is read up to is its last member, as in the kernel.

#define UP_TO(type, last) (offsetof(type, last) + sizeof(type::last))

constexpr auto number = ArgumentKind::value;
constexpr auto integer = ArgumentKind::integer;
constexpr auto string = ArgumentKind::string;
constexpr auto sized = ArgumentKind::sized_struct;

constexpr std::array<Operation, 11> table = {{
    {VFIO_GET_API_VERSION, "VFIO_GET_API_VERSION", Target::container, number, 0, nullptr,
     decode_api_version},
    {VFIO_CHECK_EXTENSION, "VFIO_CHECK_EXTENSION", Target::container, number, 0, nullptr,
     decode_extension},
    {VFIO_SET_IOMMU, "VFIO_SET_IOMMU", Target::container, number, 0, nullptr, decode_iommu},
    {VFIO_IOMMU_GET_INFO, "VFIO_IOMMU_GET_INFO", Target::iommu, sized,
     UP_TO(vfio_iommu_type1_info, iova_pgsizes), nullptr, decode_info},
    {VFIO_IOMMU_MAP_DMA, "VFIO_IOMMU_MAP_DMA", Target::iommu, sized,
     UP_TO(vfio_iommu_type1_dma_map, size), nullptr, decode_map},
    {VFIO_IOMMU_UNMAP_DMA, "VFIO_IOMMU_UNMAP_DMA", Target::iommu, sized,
     UP_TO(vfio_iommu_type1_dma_unmap, size), whole_unmap, decode_unmap},
    {VFIO_IOMMU_DIRTY_PAGES, "VFIO_IOMMU_DIRTY_PAGES", Target::iommu, sized,
     UP_TO(vfio_iommu_type1_dirty_bitmap, flags), whole_dirty, decode_dirty},
    {VFIO_GROUP_GET_STATUS, "VFIO_GROUP_GET_STATUS", Target::group, sized,
     UP_TO(vfio_group_status, flags), nullptr, decode_status},
    {VFIO_GROUP_SET_CONTAINER, "VFIO_GROUP_SET_CONTAINER", Target::group, integer,
     sizeof(std::int32_t), nullptr, decode_container},
    {VFIO_GROUP_UNSET_CONTAINER, "VFIO_GROUP_UNSET_CONTAINER", Target::group, number, 0, nullptr,
     decode_unset},
    {VFIO_GROUP_GET_DEVICE_FD, "VFIO_GROUP_GET_DEVICE_FD", Target::group, string, 0, nullptr,
     decode_device},
}};

#undef UP_TO

constexpr std::array<std::pair<std::uint64_t, std::string_view>, 8> extensions = {{
    {VFIO_TYPE1_IOMMU, "VFIO_TYPE1_IOMMU"},
    {VFIO_SPAPR_TCE_IOMMU, "VFIO_SPAPR_TCE_IOMMU"},
    {VFIO_TYPE1v2_IOMMU, "VFIO_TYPE1v2_IOMMU"},
    {VFIO_DMA_CC_IOMMU, "VFIO_DMA_CC_IOMMU"},
    {VFIO_SPAPR_TCE_v2_IOMMU, "VFIO_SPAPR_TCE_v2_IOMMU"},
    {VFIO_NOIOMMU_IOMMU, "VFIO_NOIOMMU_IOMMU"},
    {VFIO_UNMAP_ALL, "VFIO_UNMAP_ALL"},
    {VFIO_UPDATE_VADDR, "VFIO_UPDATE_VADDR"},
}};

} // namespace

const Operation *find_operation(unsigned int command) {
  const auto *const found = std::ranges::find(table, command, &Operation::command);
  return found == table.end() ? nullptr : found;
}

std::string_view name_of(unsigned int command) {
  const auto *const operation = find_operation(command);
  return operation != nullptr ? operation->name : std::string_view{};
}

LegacyCall decode(unsigned int command, std::uint64_t value, ConstBytes argument) {
  const auto *const operation = find_operation(command);
  return operation != nullptr ? operation->decode(value, argument) : UnknownCall{};
}

void store(const LegacyCall &call, std::vector<std::byte> &bytes) {
  match(
      call,
      [&](const GetInfo &info) {
        vfio_iommu_type1_info object{};
        object.argsz = info.argsz;
        object.flags = info.flags;
        object.iova_pgsizes = info.page_sizes;
        object.cap_offset = info.capability_offset;
        put(object, bytes);
      },
      [&](const MapDma &map) {
        put(vfio_iommu_type1_dma_map{.argsz = map.argsz,
                                     .flags = map.flags,
                                     .vaddr = map.vaddr.value,
                                     .iova = map.iova.value,
                                     .size = map.size.value},
            bytes);
      },
      [&](const UnmapDma &unmap) {
        vfio_iommu_type1_dma_unmap object{};
        object.argsz = unmap.argsz;
        object.flags = unmap.flags;
        object.iova = unmap.iova.value;
        object.size = unmap.size.value;
        put(object, bytes);
        if (unmap.bitmap)
          put(struct_of(*unmap.bitmap), bytes, unmap_size);
      },
      [&](const DirtyPages &dirty) {
        vfio_iommu_type1_dirty_bitmap object{};
        object.argsz = dirty.argsz;
        object.flags = dirty.flags;
        put(object, bytes);
        if (dirty.range)
          put(vfio_iommu_type1_dirty_bitmap_get{.iova = dirty.range->iova.value,
                                                .size = dirty.range->size.value,
                                                .bitmap = struct_of(dirty.range->bitmap)},
              bytes, dirty_size);
      },
      [&](const GetStatus &status) {
        put(vfio_group_status{.argsz = status.argsz, .flags = status.flags}, bytes);
      },
      [&](const SetContainer &set) { put(std::int32_t{set.container.value}, bytes); },
      [&](const GetDeviceFd &get) {
        const auto text = std::as_bytes(std::span(get.text.c_str(), get.text.size() + 1));
        bytes.resize(std::max(bytes.size(), text.size()));
        std::ranges::copy(text, bytes.begin());
      },
      [](const auto & /*number*/) {});
}

std::vector<std::byte> encode(const LegacyCall &call) {
  std::vector<std::byte> bytes;
  store(call, bytes);
  return bytes;
}

std::string_view extension_name(std::uint64_t extension) {
  const auto *const found =
      std::ranges::find(extensions, extension, [](const auto &entry) { return entry.first; });
  return found == extensions.end() ? std::string_view{} : found->second;
}

} // namespace vfio_shim::rules
