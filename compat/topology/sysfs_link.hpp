// SPDX-License-Identifier: MIT
/// @file
/// Links in sysfs, which tell what belongs to what.
#pragma once

#include "vfio_shim/result.hpp"

#include <filesystem>
#include <string>
#include <system_error>

namespace vfio_shim::topology {

/// Whether a file could not be read because it is not there, or is of another kind. Anything else,
/// such as a lack of descriptors or memory, says nothing about the machine.
bool is_not_there(const std::error_code &error);

/// The last component of what the link @p link points to, or "" if there is no such link.
Result<std::string> link_target_name(const std::filesystem::path &link);

} // namespace vfio_shim::topology
