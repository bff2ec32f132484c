// SPDX-License-Identifier: MIT
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <ostream>

namespace legacy {

/// A number of bytes.
struct Bytes {
  std::uint64_t count = 0;

  friend constexpr auto operator<=>(Bytes, Bytes) = default;
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return {a.count + b.count}; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return {a.count - b.count}; }
  friend constexpr Bytes operator*(Bytes a, std::uint64_t times) { return {a.count * times}; }
  friend constexpr std::uint64_t operator/(Bytes a, Bytes b) { return a.count / b.count; }
  friend std::ostream &operator<<(std::ostream &out, Bytes bytes) {
    return out << bytes.count << " bytes";
  }
};

constexpr Bytes operator""_B(unsigned long long n) {
  return {n};
}
constexpr Bytes operator""_KiB(unsigned long long n) {
  return {n << 10};
}
constexpr Bytes operator""_MiB(unsigned long long n) {
  return {n << 20};
}
constexpr Bytes operator""_GiB(unsigned long long n) {
  return {n << 30};
}

/// The page size of x86-64, and the smallest IOMMU page here.
inline constexpr Bytes page{4096};
/// The size of a PMD huge page on x86-64.
inline constexpr Bytes huge_page{2 << 20};

/// An address as the device sees it.
struct Iova {
  std::uint64_t address = 0;

  friend constexpr auto operator<=>(Iova, Iova) = default;
  friend constexpr Iova operator+(Iova a, Bytes offset) { return {a.address + offset.count}; }
  friend constexpr Iova operator-(Iova a, Bytes offset) { return {a.address - offset.count}; }
  friend std::ostream &operator<<(std::ostream &out, Iova iova) {
    return out << "IOVA 0x" << std::hex << iova.address << std::dec;
  }
};

/// The number of an IOMMU group.
enum class GroupId : int {};

} // namespace legacy
