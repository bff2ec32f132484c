// SPDX-License-Identifier: MIT
/// @file
/// A comparison as a web page of its own.
#pragma once

#include "cli/compare/comparison.hpp"

#include <string>
#include <vector>

namespace vfio_shim::cli {

/// One HTML page with nothing outside itself: no script, no style sheet, no image.
/// @param subject What was compared: the command, or the recording that was replayed.
std::string comparison_page(const Comparison &comparison, const std::vector<Turn> &turns,
                            const std::string &subject);

} // namespace vfio_shim::cli
