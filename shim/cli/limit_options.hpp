// SPDX-License-Identifier: MIT
/// @file
/// The options --mapping-limit and --iova-window.
#pragma once

#include "vfio_shim/container.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace vfio_shim::cli {

/// What containers are limited to.
struct Limits {
  std::uint32_t mappings = default_mapping_limit; ///< Of one container.
  std::optional<IovaRange> iova_window;
  bool given = false; ///< Asked for, rather than the defaults.
};

/// "0x100000-0xffffffff", in hexadecimal or decimal; both ends belong to it.
/// @return EINVAL, saying what is wrong: not two numbers, the end before the start, or not whole
///         pages.
Result<IovaRange> parse_iova_window(const std::string &text);

/// Adds the options, which are stored in @p limits.
/// @param excluded An option that does not go with them, or nullptr.
void add_limit_options(CLI::App &command, Limits &limits, CLI::Option *excluded = nullptr);

} // namespace vfio_shim::cli
