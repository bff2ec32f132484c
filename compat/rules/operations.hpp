// SPDX-License-Identifier: MIT
/// @file
/// The table of the legacy API's ioctls. Who needs to know an ioctl's number, name or layout asks
/// here; nobody else knows.
#pragma once

#include "rules/legacy_call.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace vfio_shim::rules {

/// The kind of file that answers an ioctl, and when.
enum class Target : std::uint8_t {
  container, ///< The container, always.
  iommu,     ///< The container, once VFIO_SET_IOMMU has given it an IOMMU.
  group,
};

/// The meaning of an ioctl's third argument.
enum class ArgumentKind : std::uint8_t {
  value,        ///< A number.
  integer,      ///< The address of an int.
  string,       ///< The address of a string that ends with NUL.
  sized_struct, ///< The address of a struct that starts with `u32 argsz`.
};

/// One ioctl.
struct Operation {
  unsigned int command;
  std::string_view name; ///< "VFIO_IOMMU_MAP_DMA".
  Target target;
  ArgumentKind kind;
  /// The size of the struct up to the last member that every caller must have.
  std::size_t least;
  /// Returns the argument's size, with what follows the struct if its flags ask for that.
  /// @param argument Its first `least` bytes.
  std::size_t (*whole)(std::span<const std::byte> argument);
  LegacyCall (*decode)(std::uint64_t value, std::span<const std::byte> argument);
};

/// The operation for @p command, or nullptr: the legacy API has no such ioctl.
const Operation *find_operation(unsigned int command);

/// Its name, or "".
std::string_view name_of(unsigned int command);

/// The call that the bytes say.
/// @param value The ioctl's third argument, as the client gave it.
/// @param argument What lies there. Missing bytes count as 0, and what is missing altogether
/// behind a struct as not there.
LegacyCall decode(unsigned int command, std::uint64_t value, std::span<const std::byte> argument);

/// Puts the call's argument at the start of @p bytes, which grow if it does not fit. What else is
/// there stays.
void store(const LegacyCall &call, std::vector<std::byte> &bytes);

/// The call's argument: of a number, nothing.
std::vector<std::byte> encode(const LegacyCall &call);

/// "VFIO_UNMAP_ALL" for what VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU name by a number, or "".
std::string_view extension_name(std::uint64_t extension);

} // namespace vfio_shim::rules
