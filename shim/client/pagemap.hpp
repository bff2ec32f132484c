/// @file
/// What physical pages a client's memory has.
#pragma once

#include "vfio_shim/units.hpp"

#include <cstdint>
#include <vector>

namespace vfio_shim::client {

/// See Client::physical_pages().
std::vector<std::uint64_t> physical_pages(Tid thread, ClientAddr start, Bytes size);

/// Whether all pages at [@p start, @p start + @p size) are in memory, and fewer than @p many of
/// them are small ones. No if it cannot be told.
bool is_quickly_pinned(Tid thread, ClientAddr start, Bytes size, std::uint64_t many);

} // namespace vfio_shim::client
