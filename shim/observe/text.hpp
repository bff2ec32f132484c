// SPDX-License-Identifier: MIT
/// @file
/// Text in arrays of fixed size.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

namespace vfio_shim::observe {

/// Copies as much as fits; the rest of @p to, at least its last byte, becomes 0.
inline void copy_text(std::string_view text, std::span<char> to) {
  std::ranges::fill(to, '\0');
  std::ranges::copy(text.substr(0, to.size() - 1), to.begin());
}

/// What stands before the first 0, or all of it.
inline std::string text_of(std::span<const char> bytes) {
  return {bytes.begin(), std::ranges::find(bytes, '\0')};
}

} // namespace vfio_shim::observe
