// SPDX-License-Identifier: MIT
/// @file
/// Writing a file to the last byte.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <cstddef>
#include <span>

namespace vfio_shim::observe {

/// Writes all of @p bytes, however many write() takes at a time.
inline Result<void> write_all(const Fd &file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return fail_errno("write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

} // namespace vfio_shim::observe
