// SPDX-License-Identifier: MIT
/// @file
/// Foreign text made fit for a terminal and a log.
#pragma once

#include <string>
#include <string_view>

namespace vfio_shim {

/// The text with '?' for whatever is not printable ASCII: what clients call themselves must not
/// reach a terminal as it is.
std::string printable(std::string_view text);

/// The text with "\x1b" and the like for whatever is not printable ASCII: for lines of which
/// nothing is to be lost.
std::string escaped(std::string_view text);

/// Text from a client's memory for a message: printable, and not longer than a name.
std::string quoted_name(std::string_view text);

} // namespace vfio_shim
