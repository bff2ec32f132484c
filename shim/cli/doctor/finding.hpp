// SPDX-License-Identifier: MIT
/// @file
/// What one check of the machine found.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vfio_shim::cli::doctor {

enum class Outcome : std::uint8_t {
  ok,
  note,   ///< Worth knowing; the shim serves nevertheless.
  missing ///< The shim cannot serve.
};

/// "ok", "note", "missing".
std::string outcome_name(Outcome outcome);

struct Finding {
  std::string subject; ///< What was looked at, in a word or two: "/dev/cuse".
  Outcome outcome = Outcome::ok;
  std::string found;
  std::string
      remedy; ///< The one command or kernel option that mends it; "" if nothing needs to be.
};

Finding ok(std::string subject, std::string found);
Finding note(std::string subject, std::string found, std::string remedy = {});
Finding missing(std::string subject, std::string found, std::string remedy);

/// The remedy for a kernel option that is off. @param option Without its "CONFIG_".
std::string rebuild_with(std::string_view option);

/// The remedy for a kernel argument. @param action "add intel_iommu=on to".
std::string kernel_argument(std::string_view action);

} // namespace vfio_shim::cli::doctor
