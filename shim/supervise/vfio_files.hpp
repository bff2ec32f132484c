// SPDX-License-Identifier: MIT
/// @file
/// What a client's descriptor is an open file of.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/units.hpp"

#include <optional>

namespace vfio_shim::supervise {

/// The group that @p file is an open file of, if it is a group node of a vfio-shim daemon.
std::optional<GroupId> group_behind(const Fd &file);

/// Whether @p file is an open file of a device's cdev.
bool is_device(const Fd &file);

} // namespace vfio_shim::supervise
