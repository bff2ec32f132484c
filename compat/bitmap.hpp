// SPDX-License-Identifier: MIT
/// @file
/// Bits in an array of u64, the lowest bit of the first u64 being bit 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace vfio_shim {

/// Sets bits 0 to @p count - 1.
void set_first_bits(std::span<std::uint64_t> bits, std::uint64_t count);

/// Bits 0 to @p count - 1 of @p bits, moved up by @p shift (less than 64) places.
/// @return As many u64 as that takes; what is below and above is 0.
/// @param bits Has no bit set from @p count on.
std::vector<std::uint64_t> moved_up(std::span<const std::uint64_t> bits, std::uint64_t count,
                                    unsigned int shift);

} // namespace vfio_shim
