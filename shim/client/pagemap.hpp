// SPDX-License-Identifier: MIT
/// @file
/// What physical pages a client's memory has.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <vector>

namespace vfio_shim::client {

/// See Client::physical_pages().
/// @param pagemap The client's; may be no file.
std::vector<std::uint64_t> physical_pages(const Fd &pagemap, ClientAddr start, Bytes size);

/// Whether all pages at [@p start, @p start + @p size) are in memory, and fewer than @p many of
/// them are small ones. No if it cannot be told.
bool is_quickly_pinned(const Fd &pagemap, ClientAddr start, Bytes size, std::uint64_t many);

} // namespace vfio_shim::client
