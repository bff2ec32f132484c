// SPDX-License-Identifier: MIT
/// @file
/// The last numbers of this process's descriptor table, kept for what is open for a moment only.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

namespace vfio_shim::client {

/// Whether @p file has one of the last numbers of the table: 64 of them, or a quarter of a table
/// with few.
///
/// A new descriptor gets the lowest free number. So one that lies in the reserve tells that the
/// table is nearly full, and must not be kept: to serve those who are there already takes
/// descriptors for a moment, again and again, and they must always find room.
bool lies_in_reserve(const Fd &file);

/// Passes @p file on unless it lies in the reserve; then it is closed.
/// @return ENFILE if it does.
Result<Fd> outside_reserve(Fd file);

/// Says whether there is room for descriptors that stay, before work is begun that takes some.
/// @return ENFILE if the next descriptor would lie in the reserve, or there is none. ENOMEM.
Result<void> room_for_lasting_descriptors();

} // namespace vfio_shim::client
