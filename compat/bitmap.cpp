// SPDX-License-Identifier: MIT
#include "bitmap.hpp"

#include <algorithm>

namespace vfio_shim {

void set_first_bits(std::span<std::uint64_t> bits, std::uint64_t count) {
  std::ranges::fill(bits.first(count / 64), ~std::uint64_t{0});
  if (count % 64 != 0)
    bits[count / 64] |= (std::uint64_t{1} << count % 64) - 1;
}

std::vector<std::uint64_t> moved_up(std::span<const std::uint64_t> bits, std::uint64_t count,
                                    unsigned int shift) {
  std::vector<std::uint64_t> moved((count + shift + 63) / 64);
  std::uint64_t from_below = 0;
  for (std::size_t index = 0; index < moved.size(); ++index) {
    const std::uint64_t word = index < bits.size() ? bits[index] : 0;
    moved[index] = word << shift | from_below;
    from_below = shift == 0 ? 0 : word >> (64 - shift);
  }
  return moved;
}

} // namespace vfio_shim
