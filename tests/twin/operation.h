// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string_view>
#include <variant>
#include <vector>

namespace twin {

/// The first operand of most operations: which of a twin's containers or groups. A slot can be
/// empty; an operation on what is not there is left out.
using Slot = int;
inline constexpr Slot slots = 2;

/// Where the argument of an ioctl lies.
enum class Place {
  Whole,    ///< All of it is there, and nothing behind it.
  Cut,      ///< Its last byte is not there.
  ReadOnly, ///< All of it, but it cannot be written to.
  Absent,   ///< Where nothing is mapped.
  Null,     ///< No address at all.
};

/// What goes with the argument of an ioctl, whatever it is about.
struct Envelope {
  std::uint32_t argsz = 0;
  Place place = Place::Whole;
};

/// A place in the memory that both twins have, each at an address of its own. See memory_pool.h.
struct MemoryAt {
  enum class Base { Pool, Zero, Kernel, Top } base = Base::Pool;
  std::int64_t page = 0;
  std::uint32_t byte = 0;
};

// --- One operation each: what a client of the legacy API can do. `name` is for the tally.

struct OpenContainer {
  static constexpr std::string_view name = "open container";
  Slot container = 0;
};
struct CloseContainer {
  static constexpr std::string_view name = "close container";
  Slot container = 0;
};
struct OpenGroup {
  static constexpr std::string_view name = "open group";
  Slot group = 0;
};
struct CloseGroup {
  static constexpr std::string_view name = "close group";
  Slot group = 0;
};

struct SetContainer {
  static constexpr std::string_view name = "SET_CONTAINER";
  /// Whose descriptor is named.
  enum class File { Container, OtherFile, OwnGroup, Minus1 } file = File::Container;
  Slot group = 0;
  Slot container = 0;
  Place place = Place::Whole;
};
struct UnsetContainer {
  static constexpr std::string_view name = "UNSET_CONTAINER";
  Slot group = 0;
};
struct GetStatus {
  static constexpr std::string_view name = "GET_STATUS";
  Slot group = 0;
  Envelope envelope;
};
struct GetDeviceFd {
  static constexpr std::string_view name = "GET_DEVICE_FD";
  /// The device's name, or a string like it.
  enum class Name { Right, Absent, OtherGroups, Empty, Short, Longer, Space, Token, Options };
  Slot group = 0;
  Name device = Name::Right;
  Place place = Place::Whole;
};
struct CloseDevice {
  static constexpr std::string_view name = "close device";
  Slot group = 0;
};
/// Any other ioctl on a group.
struct GroupCall {
  static constexpr std::string_view name = "any group ioctl";
  Slot group = 0;
  unsigned long request = 0;
  Place place = Place::Whole;
};
/// An ioctl on a device's fd.
struct DeviceCall {
  static constexpr std::string_view name = "any device ioctl";
  Slot group = 0;
  unsigned long request = 0;
  Envelope envelope;
};

struct CheckExtension {
  static constexpr std::string_view name = "CHECK_EXTENSION";
  Slot container = 0;
  unsigned long extension = 0;
};
struct SetIommu {
  static constexpr std::string_view name = "SET_IOMMU";
  Slot container = 0;
  unsigned long type = 0;
};
struct GetInfo {
  static constexpr std::string_view name = "GET_INFO";
  Slot container = 0;
  Envelope envelope;
};
struct MapDma {
  static constexpr std::string_view name = "MAP_DMA";
  Slot container = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
  MemoryAt memory;
  std::uint32_t flags = 0;
  Envelope envelope;
};
struct UnmapDma {
  static constexpr std::string_view name = "UNMAP_DMA";
  Slot container = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
  std::uint32_t flags = 0;
  Envelope envelope;
};
/// A dirty bitmap: struct vfio_bitmap, and how many u64 there are where it points.
struct Bitmap {
  std::uint64_t page_size = 0;
  std::uint64_t size = 0;
  Place place = Place::Whole;
};
/// VFIO_IOMMU_UNMAP_DMA with the bitmap of what was dirty behind it.
struct UnmapGettingDirty {
  static constexpr std::string_view name = "UNMAP_DMA with bitmap";
  UnmapDma unmap;
  Bitmap bitmap;
};
struct DirtyPages {
  static constexpr std::string_view name = "DIRTY_PAGES";
  Slot container = 0;
  std::uint32_t flags = 0;
  Envelope envelope;
};
/// VFIO_IOMMU_DIRTY_PAGES with the struct of GET_BITMAP behind it, whatever the flags.
struct DirtyBitmap {
  static constexpr std::string_view name = "DIRTY_PAGES with range";
  Slot container = 0;
  std::uint32_t flags = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
  Bitmap bitmap;
  Envelope envelope;
};
/// Any other ioctl on a container.
struct ContainerCall {
  static constexpr std::string_view name = "any container ioctl";
  Slot container = 0;
  unsigned long request = 0;
  Place place = Place::Whole;
};

/// The device copies bytes from one IOVA to another: one DMA read, one DMA write.
struct CopyByDma {
  static constexpr std::string_view name = "copy by DMA";
  Slot group = 0;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
};
/// The client writes new bytes to a page of its memory.
struct WriteMemory {
  static constexpr std::string_view name = "write memory";
  std::int64_t page = 0;
  std::uint32_t seed = 0;
};
/// The client changes what may be done with pages of its memory; 0: unmaps them.
struct ChangeMemory {
  static constexpr std::string_view name = "mprotect or munmap";
  std::int64_t page = 0;
  std::int64_t count = 0;
  int protection = 0;
};

using Operation =
    std::variant<OpenContainer, CloseContainer, OpenGroup, CloseGroup, SetContainer, UnsetContainer,
                 GetStatus, GetDeviceFd, CloseDevice, GroupCall, DeviceCall, CheckExtension,
                 SetIommu, GetInfo, MapDma, UnmapDma, UnmapGettingDirty, DirtyPages, DirtyBitmap,
                 ContainerCall, CopyByDma, WriteMemory, ChangeMemory>;

std::string_view name_of(const Operation &operation);
std::ostream &operator<<(std::ostream &out, const Operation &operation);

/// What both twins are told to do; printed one operation to a line.
struct Script {
  std::vector<Operation> operations;
};
std::ostream &operator<<(std::ostream &out, const Script &script);

} // namespace twin
