// SPDX-License-Identifier: MIT
/// @file
/// Where the daemons keep what survives them.
#pragma once

namespace vfio_shim::daemon {

inline constexpr const char *default_state_directory = "/var/lib/vfio-shim";

} // namespace vfio_shim::daemon
