// SPDX-License-Identifier: MIT
/// @file
/// Numbers that must not be mistaken for one another, as types.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace vfio_shim {

/// A number of one kind. @p Kind only tells the kinds apart.
template <typename Kind, typename Number>
struct Strong {
  Number value{};

  constexpr Strong() = default;
  constexpr explicit Strong(Number number) : value(number) {}
  friend constexpr auto operator<=>(const Strong &, const Strong &) = default;
};

/// A count of bytes.
using Bytes = Strong<struct BytesKind, std::uint64_t>;
/// An address as the device sees it.
using Iova = Strong<struct IovaKind, std::uint64_t>;
/// An address in the client's memory. Never one of ours: it cannot be dereferenced.
using ClientAddr = Strong<struct ClientAddrKind, std::uint64_t>;
/// A file descriptor's number in the client. Means nothing in this process.
using ClientFd = Strong<struct ClientFdKind, int>;
/// The kernel's number of an IOMMU group.
using GroupId = Strong<struct GroupIdKind, std::uint32_t>;
/// The number of a node's open file, by which everybody names it: the kernel (FUSE's `fh`), the
/// ledger, `status`, recordings. No two open files ever have the same.
using FileNumber = Strong<struct FileNumberKind, std::uint64_t>;
/// A thread's id as this process sees it.
using Tid = Strong<struct TidKind, int>;
/// A process's id (thread group id) as this process sees it.
using Pid = Strong<struct PidKind, int>;

constexpr Iova operator+(Iova start, Bytes size) {
  return Iova{start.value + size.value};
}
constexpr ClientAddr operator+(ClientAddr start, Bytes size) {
  return ClientAddr{start.value + size.value};
}
constexpr Bytes operator+(Bytes one, Bytes other) {
  return Bytes{one.value + other.value};
}
constexpr Bytes operator-(Iova end, Iova start) {
  return Bytes{end.value - start.value};
}
constexpr Bytes operator-(ClientAddr end, ClientAddr start) {
  return Bytes{end.value - start.value};
}

/// The IOVAs from first to last, both included (so that the whole space can be said).
struct IovaRange {
  Iova first;
  Iova last;

  friend constexpr auto operator<=>(const IovaRange &, const IovaRange &) = default;
};

/// What a device may do with memory it reaches through a mapping.
struct Access {
  bool read = false;
  bool write = false;

  friend constexpr auto operator<=>(const Access &, const Access &) = default;
};

} // namespace vfio_shim

template <>
struct fmt::formatter<vfio_shim::IovaRange> : fmt::formatter<std::string> {
  template <typename Context>
  auto format(const vfio_shim::IovaRange &range, Context &context) const {
    return fmt::format_to(context.out(), "[{:#x}, {:#x}]", range.first.value, range.last.value);
  }
};
