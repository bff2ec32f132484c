// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/system_files.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli::doctor {

namespace {

namespace fs = std::filesystem;

/// A program that is given devices, or gives them to others.
constexpr std::array<std::string_view, 12> starters = {
    "libvirtd",           "virtqemud", "kubelet", "containerd",       "podman",       "dockerd",
    "qemu-system-x86_64", "qemu-kvm",  "crosvm",  "cloud-hypervisor", "dpdk-testpmd", "vpp"};

/// The kernel cuts names of commands.
constexpr std::size_t longest_command = 15;

bool is_number(std::string_view name) {
  return !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_installed(const Machine &machine, std::string_view program) {
  return std::ranges::any_of(machine.roots.programs, [&](const fs::path &directory) {
    return is_there(directory / program);
  });
}

/// "libvirtd (runs)", "crosvm".
std::vector<std::string> starters_here(const Machine &machine) {
  std::set<std::string> commands;
  for (const std::string &process : names_in(machine.roots.proc))
    if (is_number(process))
      commands.insert(first_line(machine.roots.proc / process / "comm"));
  std::vector<std::string> here;
  for (const std::string_view starter : starters)
    if (commands.contains(std::string(starter.substr(0, longest_command))))
      here.push_back(fmt::format("{} (runs)", starter));
    else if (is_installed(machine, starter))
      here.emplace_back(starter);
  return here;
}

/// "qemu-system-x86[12] has /dev/vfio/5 open": the first process that is found.
std::string user_of_legacy_nodes(const Machine &machine) {
  const std::string nodes = (machine.roots.kernel.dev / "vfio/").string();
  for (const std::string &process : names_in(machine.roots.proc)) {
    if (!is_number(process))
      continue;
    const fs::path files = machine.roots.proc / process / "fd";
    for (const std::string &number : names_in(files)) {
      std::error_code error;
      const std::string target = fs::read_symlink(files / number, error).string();
      if (!error && target.starts_with(nodes) && is_number(target.substr(nodes.size())))
        return fmt::format("{}[{}] has {} open", first_line(machine.roots.proc / process / "comm"),
                           process, target);
    }
  }
  return {};
}

bool serves_host(const Machine &machine) {
  return std::ranges::any_of(machine.daemons,
                             [](const auto &daemon) { return daemon.prefix == "vfio"; });
}

} // namespace

Finding check_starters(const Machine &machine) {
  const std::string subject = "who starts VMs";
  const auto here = starters_here(machine);
  if (here.empty())
    return ok(subject, "nobody that doctor knows");
  const std::string names = fmt::format("{}", fmt::join(here, ", "));
  if (serves_host(machine))
    return ok(subject, fmt::format("{}: find the shim's nodes in /dev/vfio{}", names,
                                   daemon::shares_with_kernel(machine.roots.kernel)
                                       ? ", and the kernel's of the groups that are left to it"
                                       : ""));
  if (!daemon::kernel_has_legacy_nodes(machine.roots.kernel))
    return note(subject,
                fmt::format("{}: find no nodes in /dev/vfio, because nobody serves them", names),
                "vfio-shim serve");
  return note(
      subject, fmt::format("{}: find the kernel's own nodes in /dev/vfio, not the shim's", names),
      "vfio-shim serve --take-over, perhaps with --devices for a start; or start what needs "
      "them by vfio-shim run -- PROGRAM");
}

Finding check_open_nodes(const Machine &machine) {
  const std::string subject = "open groups";
  if (serves_host(machine) || !daemon::kernel_has_legacy_nodes(machine.roots.kernel))
    return ok(subject, "none of the kernel's");
  const std::string user = user_of_legacy_nodes(machine);
  if (user.empty())
    return ok(subject, "none of the kernel's");
  return note(subject, fmt::format("{}: the shim cannot use that group before it closes it", user),
              "end that program before vfio-shim serve --take-over, or leave its device out by "
              "--except");
}

} // namespace vfio_shim::cli::doctor
