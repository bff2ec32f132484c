// SPDX-License-Identifier: MIT
/// @file
/// A comparison, for people at a terminal and for programs.
#pragma once

#include "cli/compare/comparison.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace vfio_shim::cli {

/// One sentence: whether anything diverged, and how many calls were compared.
std::string verdict_text(const Comparison &comparison);

/// What is compared with what, for those who wonder why something is no divergence.
std::string comparison_rule();

/// "412 us", "3.1 ms": nanoseconds for people.
std::string human_time(std::uint64_t nanoseconds);

/// The whole comparison: divergences, the table of ioctls, the verdict.
std::string comparison_text(const Comparison &comparison);

nlohmann::ordered_json comparison_json(const Comparison &comparison);

} // namespace vfio_shim::cli
