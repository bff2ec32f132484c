// SPDX-License-Identifier: MIT
#include "cli/doctor/finding.hpp"

#include <utility>

#include <fmt/format.h>

namespace vfio_shim::cli::doctor {

std::string outcome_name(Outcome outcome) {
  switch (outcome) {
  case Outcome::ok:
    return "ok";
  case Outcome::note:
    return "note";
  case Outcome::missing:
    return "missing";
  }
  return {};
}

Finding ok(std::string subject, std::string found) {
  return {.subject = std::move(subject),
          .outcome = Outcome::ok,
          .found = std::move(found),
          .remedy = {}};
}

Finding note(std::string subject, std::string found, std::string remedy) {
  return {.subject = std::move(subject),
          .outcome = Outcome::note,
          .found = std::move(found),
          .remedy = std::move(remedy)};
}

Finding missing(std::string subject, std::string found, std::string remedy) {
  return {.subject = std::move(subject),
          .outcome = Outcome::missing,
          .found = std::move(found),
          .remedy = std::move(remedy)};
}

std::string rebuild_with(std::string_view option) {
  return fmt::format("use a kernel built with CONFIG_{}=y", option);
}

std::string kernel_argument(std::string_view action) {
  return fmt::format("{} the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then "
                     "update-grub and reboot)",
                     action);
}

} // namespace vfio_shim::cli::doctor
