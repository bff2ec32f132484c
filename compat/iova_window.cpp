// SPDX-License-Identifier: MIT
#include "iova_window.hpp"

#include <algorithm>

namespace vfio_shim {

std::optional<IovaRange> first_hole(std::span<const IovaRange> usable, IovaRange window) {
  Iova at = window.first; // Everything in the window below is usable.
  for (const IovaRange &range : usable) {
    if (range.last < at)
      continue;
    if (at < range.first)
      return IovaRange{at, std::min(window.last, Iova{range.first.value - 1})};
    if (window.last <= range.last)
      return std::nullopt;
    at = Iova{range.last.value + 1};
  }
  return IovaRange{at, window.last};
}

} // namespace vfio_shim
