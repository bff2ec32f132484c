// SPDX-License-Identifier: MIT
/// @file
/// What `vfio-shim doctor` says, for people and for programs.
#pragma once

#include "cli/doctor/finding.hpp"

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace vfio_shim::cli::doctor {

/// Whether the shim can serve.
bool ready(const std::vector<Finding> &findings);

/// A line for each finding, a line with the remedy below those that have one, and a summary.
/// @param colour Use the terminal's.
std::string report_text(const std::vector<Finding> &findings, bool colour);

/// What `doctor --json` prints. The keys and the outcomes are stable; the texts are for people, and
/// checks may be added.
///
/// @code{.json}
/// {
///   "ready": false,                      // true: the exit status is 0
///   "checks": [
///     {"check": "/dev/cuse", "outcome": "ok", "found": "can be opened", "remedy": null},
///     {"check": "/dev/iommu", "outcome": "missing", "found": "is not there",
///      "remedy": "modprobe iommufd"}     // "ok", "note" or "missing"
///   ],
///   "tried": [...]                       // with --try: see trial_json()
/// }
/// @endcode
nlohmann::ordered_json report_json(const std::vector<Finding> &findings);

} // namespace vfio_shim::cli::doctor
