// SPDX-License-Identifier: MIT
#pragma once

#include "client/provider.h"

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "measurements.h"

namespace bench {

/// The medians in microseconds, one line for each operation, and their ratios to type1 and to
/// kernel-compat. A median is marked with ~ when the slowest tenth took more than four times as
/// long as the fastest tenth: the machine was busy with something else.
/// @param unit What the figures are.
std::string as_table(const Measurements &measurements,
                     const std::vector<legacy::Provider> &providers,
                     const std::string &unit = "microseconds");

/// As as_table(), with the number of samples and the 10th and 90th percentiles.
nlohmann::json as_json(const Measurements &measurements,
                       const std::vector<legacy::Provider> &providers,
                       const std::string &unit = "microseconds");

} // namespace bench
