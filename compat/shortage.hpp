// SPDX-License-Identifier: MIT
/// @file
/// Failures for want of room.
#pragma once

#include <cerrno>

namespace vfio_shim {

/// Whether errno @p code says that memory or descriptors were lacking here, rather than something
/// of what was looked at.
constexpr bool is_shortage(int code) {
  return code == ENOMEM || code == EMFILE || code == ENFILE;
}

} // namespace vfio_shim
