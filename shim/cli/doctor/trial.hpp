// SPDX-License-Identifier: MIT
/// @file
/// The steps of `vfio-shim doctor --try`.
#pragma once

#include "vfio_shim/result.hpp"

#include <chrono>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace vfio_shim::cli::doctor {

/// What has become of one step.
struct Step {
  enum class Outcome : std::uint8_t {
    ok,
    failed,
    skipped ///< It needs one that failed.
  };

  std::string what;
  Outcome outcome = Outcome::ok;
  std::chrono::nanoseconds took{};
  std::string found; ///< What went wrong, or is missing.
};

/// Steps that are taken one after the other, timed.
class Trial {
public:
  /// Takes a step. @return Whether it has succeeded.
  bool step(std::string what, const std::function<Result<void>()> &take);
  /// Takes a step only if @p possible.
  bool step_if(bool possible, std::string what, const std::function<Result<void>()> &take);

  const std::vector<Step> &steps() const { return steps_; }
  /// Whether no step has failed.
  bool succeeded() const;

private:
  std::vector<Step> steps_;
};

/// A line for each step, with its time, and a summary. @param colour Use the terminal's.
std::string trial_text(const Trial &trial, bool colour);

/// What `doctor --try --json` has under "tried". The keys and the outcomes are stable.
///
/// @code{.json}
/// [{"step": "borrow its thread", "outcome": "ok", "ms": 0.214, "found": null},
///  {"step": "open /dev/iommu", "outcome": "failed", "ms": 0.01, "found": "ENOENT (...)"}]
/// @endcode                                       // "ok", "failed" or "skipped"
nlohmann::ordered_json trial_json(const Trial &trial);

/// Tries the shim's way on a process of its own: borrows its thread, hands it a descriptor, maps a
/// page of it in an address space of iommufd. Then makes a node and opens it. Touches no device.
Trial try_here();

} // namespace vfio_shim::cli::doctor
