// SPDX-License-Identifier: MIT
/// @file
/// Plots as SVG.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// The values of one thing measured, under a name and a colour.
struct Series {
  std::string name;
  std::string colour;                ///< As CSS has it.
  std::vector<std::uint64_t> values; ///< Nanoseconds, ordered.
};

/// How the values are distributed: a row of columns for each series, over one logarithmic axis of
/// time, with its median marked.
std::string distribution_plot(const std::vector<Series> &series);

/// What something has become, and when.
struct Step {
  std::uint64_t at;    ///< Nanoseconds.
  std::uint64_t value; ///< Bytes.
};

struct StepLine {
  std::string name;
  std::string colour;
  std::vector<Step> steps; ///< In order of time.
};

/// Bytes over time, a line for each.
std::string step_plot(const std::vector<StepLine> &lines);

/// Text for HTML and SVG: what means something there, escaped; what cannot be printed, as '?'.
std::string escaped(const std::string &words);

} // namespace vfio_shim::cli
