// SPDX-License-Identifier: MIT
/// @file
/// What a daemon's container node is called in its directory.
#pragma once

namespace vfio_shim::cuse {

inline constexpr const char *container_name = "vfio";
/// Where the kernel's own container keeps that name: a daemon that leaves groups to the kernel.
inline constexpr const char *container_name_beside_kernels = "vfio-shim";

} // namespace vfio_shim::cuse
