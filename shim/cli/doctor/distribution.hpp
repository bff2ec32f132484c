// SPDX-License-Identifier: MIT
/// @file
/// The distribution, and its kernels that have what the shim needs.
#pragma once

#include "cli/doctor/machine.hpp"

#include <string>
#include <string_view>

namespace vfio_shim::cli::doctor {

/// "Debian GNU/Linux 13 (trixie)"; "" if the machine does not say.
std::string distribution_name(const Machine &machine);

/// The remedy for a kernel without iommufd or VFIO cdevs: which kernel of the distribution has
/// them, and how to get one. @param option What is off, where the distribution is not known; "": it
/// is the kernel that is too old.
std::string kernel_with_iommufd(const Machine &machine, std::string_view option = {});

} // namespace vfio_shim::cli::doctor
