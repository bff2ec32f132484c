// SPDX-License-Identifier: MIT
/// @file
/// What a terminal can show, and what its user wants to see.
#pragma once

#include <cstddef>
#include <optional>

namespace vfio_shim::cli {

/// Says whether to write colours to a file: it is a terminal, and the user has not set NO_COLOR
/// (https://no-color.org).
bool takes_colours(int file);

/// Returns how many characters fit into a line of a file: what COLUMNS says, or the terminal's
/// width. Nothing: no limit, because it is no terminal.
std::optional<std::size_t> line_width(int file);

} // namespace vfio_shim::cli
