// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/system_files.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

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
constexpr std::array<std::string_view, 5> kernels_names = {
    "char-vfio", "10:196", "SUBSYSTEM==\"vfio\"", "SUBSYSTEMS==\"vfio\"", "KERNEL==\"vfio\""};
/// Rules by path, which systemd looks up when it starts the unit.
constexpr std::string_view rule_by_path = "DeviceAllow=/dev/vfio/";

struct Rule {
  fs::path file;
  std::string_view names;
};

/// The lines of a file that are no comments, without blanks around what compares.
std::string rules_of(const fs::path &file) {
  std::istringstream lines(text_of(file));
  std::string rules;
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find_first_not_of(" \t");
    if (first == std::string::npos || line[first] == '#' || line[first] == ';')
      continue;
    for (auto at = line.find(" ="); at != std::string::npos; at = line.find(" ="))
      line.erase(at, 1);
    for (auto at = line.find("= "); at != std::string::npos; at = line.find("= "))
      line.erase(at + 1, 1);
    rules += line + '\n';
  }
  return rules;
}

/// The directory's files, those of its directories included, in order.
std::vector<fs::path> files_in(const fs::path &directory) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;
    if (entry->is_regular_file(unknown))
      files.push_back(entry->path());
  }
  std::ranges::sort(files);
  return files;
}

/// The unit that a file of systemd's is of: "vm.service", of "vm.service.d/devices.conf" as well.
std::string unit_of(const fs::path &file) {
  const std::string directory = file.parent_path().filename();
  return directory.ends_with(".d") ? directory.substr(0, directory.size() - 2)
                                   : file.filename().string();
}

/// Tells if one of the unit's files puts it after the shim's.
bool waits_for_shim(const std::vector<fs::path> &files, const std::string &unit) {
  return std::ranges::any_of(files, [&unit](const fs::path &file) {
    return unit_of(file) == unit && rules_of(file).find("vfio-shim.service") != std::string::npos;
  });
}

/// The rules that this host's administrator has made about the kernel's nodes.
std::vector<Rule> rules_for_kernels_nodes(const Machine &machine) {
  std::vector<Rule> found;
  for (const char *place : {"udev/rules.d", "systemd/system", "containers", "cdi", "libvirt"})
    for (const fs::path &file : files_in(machine.roots.etc / place)) {
      const std::string rules = rules_of(file);
      for (const std::string_view name : kernels_names)
        if (rules.find(name) != std::string::npos) {
          found.push_back({.file = file, .names = name});
          break;
        }
    }
  return found;
}

/// The units that may use a node by its path, and may start before it is there.
std::vector<fs::path> hasty_units(const Machine &machine) {
  const auto files = files_in(machine.roots.etc / "systemd/system");
  std::vector<fs::path> hasty;
  std::ranges::copy_if(files, std::back_inserter(hasty), [&files](const fs::path &file) {
    return rules_of(file).find(rule_by_path) != std::string::npos &&
           !waits_for_shim(files, unit_of(file));
  });
  return hasty;
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
  std::vector<std::string> named;
  for (const auto &[file, names] : rules_for_kernels_nodes(machine))
    named.push_back(fmt::format("{} ({})", file.string(), names));
  if (!named.empty())
    return note(subject,
                fmt::format("made for the kernel's own nodes, which the shim's are not: {}",
                            fmt::join(named, ", ")),
                "see docs/device-numbers.md for what replaces them");
  const auto hasty = hasty_units(machine);
  if (!hasty.empty())
    return note(subject,
                fmt::format("{} allows /dev/vfio by path, which is looked up when the unit starts: "
                            "it may start before the shim's nodes are there",
                            hasty.front().string()),
                "put After=vfio-shim.service into its [Unit]");
  return ok(subject, "none in /etc names the kernel's own nodes");
}

} // namespace vfio_shim::cli::doctor
