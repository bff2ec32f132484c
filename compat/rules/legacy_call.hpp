// SPDX-License-Identifier: MIT
/// @file
/// The legacy API's ioctls as values: what a client asks, and what it is answered.
///
/// Everybody who looks at a call uses these; operations.hpp makes them of bytes, and bytes of them.
/// A value holds all that the client gave, right or wrong: checking is done elsewhere.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace vfio_shim::rules {

// --- on a container

/// VFIO_GET_API_VERSION.
struct GetApiVersion {
  friend bool operator==(const GetApiVersion &, const GetApiVersion &) = default;
};

/// VFIO_CHECK_EXTENSION.
struct CheckExtension {
  std::uint64_t extension = 0; ///< VFIO_UNMAP_ALL, ...

  friend bool operator==(const CheckExtension &, const CheckExtension &) = default;
};

/// VFIO_SET_IOMMU.
struct SetIommu {
  std::uint64_t type = 0; ///< VFIO_TYPE1_IOMMU, ...

  friend bool operator==(const SetIommu &, const SetIommu &) = default;
};

/// VFIO_IOMMU_GET_INFO. Only argsz is the client's; the rest is the answer.
struct GetInfo {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint64_t page_sizes = 0;        ///< A bit per page size.
  std::uint32_t capability_offset = 0; ///< Where the chain begins, or 0: there was no room for it.

  friend bool operator==(const GetInfo &, const GetInfo &) = default;
};

/// VFIO_IOMMU_MAP_DMA.
struct MapDma {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  ClientAddr vaddr;
  Iova iova;
  Bytes size;

  Access access() const;
  /// The mapping is there, and gets a new vaddr (VFIO_DMA_MAP_FLAG_VADDR).
  bool vaddr_only() const;
  std::uint32_t unknown_flags() const;
  MapRequest request() const;

  friend bool operator==(const MapDma &, const MapDma &) = default;
};

/// The client's bitmap for dirty pages (struct vfio_bitmap).
struct Bitmap {
  Bytes page_size;
  Bytes size; ///< Of the bitmap itself.
  ClientAddr address;

  friend bool operator==(const Bitmap &, const Bitmap &) = default;
};

/// VFIO_IOMMU_UNMAP_DMA.
struct UnmapDma {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  Iova iova;
  Bytes size;                   ///< In the answer: what was unmapped.
  std::optional<Bitmap> bitmap; ///< Read only for exactly VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP.

  bool gets_bitmap() const;
  bool all() const;
  /// The mappings stay, and lose their vaddr (VFIO_DMA_UNMAP_FLAG_VADDR).
  bool vaddr_only() const;
  std::uint32_t unknown_flags() const;

  friend bool operator==(const UnmapDma &, const UnmapDma &) = default;
};

/// VFIO_IOMMU_DIRTY_PAGES.
struct DirtyPages {
  /// The mapping to report on, and the bitmap for it (struct vfio_iommu_type1_dirty_bitmap_get).
  struct Range {
    Iova iova;
    Bytes size;
    Bitmap bitmap;

    friend bool operator==(const Range &, const Range &) = default;
  };

  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::optional<Range> range; ///< Read only for exactly VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP.

  /// Each is one flag, whatever others there are.
  bool starts() const;
  bool stops() const;
  bool gets_bitmap() const;
  std::uint32_t unknown_flags() const;

  friend bool operator==(const DirtyPages &, const DirtyPages &) = default;
};

// --- on a group

/// VFIO_GROUP_GET_STATUS. The flags are the answer.
struct GetStatus {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;

  bool viable() const;
  bool in_container() const;
  std::uint32_t unknown_flags() const;

  friend bool operator==(const GetStatus &, const GetStatus &) = default;
};

/// VFIO_GROUP_SET_CONTAINER.
struct SetContainer {
  ClientFd container;

  friend bool operator==(const SetContainer &, const SetContainer &) = default;
};

/// VFIO_GROUP_UNSET_CONTAINER.
struct UnsetContainer {
  friend bool operator==(const UnsetContainer &, const UnsetContainer &) = default;
};

/// VFIO_GROUP_GET_DEVICE_FD.
struct GetDeviceFd {
  std::string text; ///< A device's name, then options; any bytes but NUL.

  std::string_view name() const;
  /// "", or what follows the name, with the space before it.
  std::string_view options() const;

  friend bool operator==(const GetDeviceFd &, const GetDeviceFd &) = default;
};

/// An ioctl that the legacy API does not have, or not on the file that it came to.
struct UnknownCall {
  friend bool operator==(const UnknownCall &, const UnknownCall &) = default;
};

using LegacyCall =
    std::variant<UnknownCall, GetApiVersion, CheckExtension, SetIommu, GetInfo, MapDma, UnmapDma,
                 DirtyPages, GetStatus, SetContainer, UnsetContainer, GetDeviceFd>;

} // namespace vfio_shim::rules
