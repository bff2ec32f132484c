// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/system_files.hpp"

#include <array>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "daemon/number_book.hpp"

namespace vfio_shim::cli::doctor {

namespace {

namespace fs = std::filesystem;

daemon::NumberPlaces places_of(const Machine &machine) {
  daemon::NumberPlaces places;
  places.state = machine.roots.state;
  places.proc = machine.roots.proc;
  places.sys = machine.roots.kernel.sys;
  return places;
}

/// What rules say that means the kernel's own nodes.
constexpr std::array<std::string_view, 3> kernels_names = {"char-vfio", "10:196",
                                                           "SUBSYSTEM==\"vfio\""};

struct Rule {
  fs::path file;
  std::string_view names;
};

std::optional<Rule> rule_in(const fs::path &file) {
  std::istringstream lines(text_of(file));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#') || line.starts_with(';'))
      continue;
    for (const std::string_view name : kernels_names)
      if (line.find(name) != std::string::npos)
        return Rule{.file = file, .names = name};
  }
  return std::nullopt;
}

/// The first rule that this host's administrator has made about the kernel's nodes.
std::optional<Rule> rule_for_kernels_nodes(const Machine &machine) {
  for (const char *place : {"udev/rules.d", "systemd/system"}) {
    std::error_code error;
    for (fs::recursive_directory_iterator entry(machine.roots.etc / place, error), end;
         !error && entry != end; entry.increment(error))
      if (entry->is_regular_file(error))
        if (const auto rule = rule_in(entry->path()))
          return rule;
  }
  return std::nullopt;
}

} // namespace

Finding check_numbers(const Machine &machine) {
  const std::string subject = "device numbers";
  const auto places = places_of(machine);
  const auto book = daemon::NumberBook::read(places);
  const unsigned int major = book.major != 0 ? book.major : daemon::choose_major(places);
  if (major == 0)
    return note(subject,
                "no major is left for the nodes: the kernel will choose, others each time");
  if (daemon::majors_of_others(places).contains(major))
    return note(subject,
                fmt::format("the nodes' major {} is a driver's now: the next daemon will have {}",
                            major, daemon::choose_major(places)),
                fmt::format("let rules name {} instead (docs/device-numbers.md)",
                            daemon::choose_major(places)));
  return ok(subject,
            fmt::format("major {}; blocks of minors: {} remembered, {} left", major,
                        book.blocks.size(), cuse::NumberBlock::count - 1 - book.blocks.size()));
}

Finding check_rules(const Machine &machine) {
  const std::string subject = "rules";
  const auto rule = rule_for_kernels_nodes(machine);
  if (!rule)
    return ok(subject, "none in /etc names the kernel's own nodes");
  return note(subject,
              fmt::format("{} names the kernel's own nodes ({}), which the shim's are not",
                          rule->file.string(), rule->names),
              "see docs/device-numbers.md for what replaces it");
}

} // namespace vfio_shim::cli::doctor
