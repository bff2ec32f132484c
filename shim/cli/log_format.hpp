// SPDX-License-Identifier: MIT
/// @file
/// What lines of the log look like.
#pragma once

#include <memory>
#include <string>

#include <spdlog/formatter.h>

namespace vfio_shim::cli {

/// Makes lines by @p pattern, as spdlog's own formatter does, but of printable ASCII only. Whatever
/// has found its way into a message, a message is one line and does nothing to a terminal.
std::unique_ptr<spdlog::formatter> printable_lines(std::string pattern);

} // namespace vfio_shim::cli
