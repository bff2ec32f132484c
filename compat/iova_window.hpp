// SPDX-License-Identifier: MIT
/// @file
/// Windows of IOVAs that must be usable as a whole.
#pragma once

#include "vfio_shim/units.hpp"

#include <optional>
#include <span>

namespace vfio_shim {

/// The first IOVAs of @p window that are not usable, if any.
/// @param usable Ordered and disjoint.
std::optional<IovaRange> first_hole(std::span<const IovaRange> usable, IovaRange window);

} // namespace vfio_shim
