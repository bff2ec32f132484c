// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/system_files.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

namespace vfio_shim::cli::doctor {

namespace {

namespace fs = std::filesystem;

/// The name of the PID namespace that the kernel starts with.
/// Source: PROC_PID_INIT_INO in include/uapi/linux/nsfs.h.
constexpr const char *first_pid_namespace = "pid:[4026531836]";

/// The type of the file system that is mounted at @p place: "devtmpfs"; "" if none is.
std::string mounted_at(const Machine &machine, const fs::path &place) {
  std::istringstream mounts(text_of(machine.roots.proc / "self/mountinfo"));
  std::string type;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string skipped;
    std::string where;
    words >> skipped >> skipped >> skipped >> skipped >> where;
    const auto end_of_options = line.find(" - ");
    if (where != place.string() || end_of_options == std::string::npos)
      continue;
    std::istringstream rest(line.substr(end_of_options + 3));
    rest >> type; // What is mounted last hides the others.
  }
  return type;
}

/// Domains of SELinux that may do what root may.
constexpr std::array<std::string_view, 6> unconfined_domains = {
    "unconfined_t", "unconfined_service_t", "spc_t", "initrc_t", "sysadm_t", "kernel_t"};

/// "container_t" of "system_u:system_r:container_t:s0:c1,c2"; "" if it is no such label.
std::string selinux_domain(const std::string &label) {
  std::istringstream parts(label);
  std::string part;
  for (int skipped = 0; skipped < 3; ++skipped)
    if (!std::getline(parts, part, ':'))
      return {};
  return part;
}

} // namespace

Finding check_pid_namespace(const Machine &machine) {
  const std::string subject = "PID namespace";
  const std::string found = link_target_name(machine.roots.proc / "self/ns/pid");
  if (found.empty())
    return note(subject, "cannot tell: no /proc/self/ns/pid");
  if (found == first_pid_namespace)
    return ok(subject, "the host's");
  return missing(
      subject, "one of a container: clients outside of it cannot be served",
      "start the container with the host's (podman run --pid=host, Kubernetes: hostPID)");
}

Finding check_dev(const Machine &machine) {
  const std::string subject = "/dev";
  const std::string type = mounted_at(machine, machine.roots.kernel.dev);
  if (type == "devtmpfs")
    return ok(subject, "the kernel's devtmpfs, which all see");
  if (text_of(machine.roots.proc / "self/mountinfo").empty())
    return note(subject, "cannot tell: no /proc/self/mountinfo");
  return missing(
      subject,
      fmt::format("{}: the kernel does not make the nodes here",
                  type.empty() ? "no file system of its own" : fmt::format("of type {}", type)),
      "start the container with the host's (podman run --volume /dev:/dev), or mount -t devtmpfs "
      "devtmpfs /dev");
}

Finding check_own_filter(const Machine &machine) {
  const std::string subject = "own seccomp";
  const auto mode = fields_of(machine.roots.proc / "self/status", "Seccomp:");
  if (mode.empty())
    return note(subject, "cannot tell: /proc/self/status does not say");
  if (mode[0] == "0")
    return ok(subject, "no filter: clients that have one can be served");
  return note(subject, "has a filter: a client that has one, too, gets EBUSY for its device",
              "start the container without (podman run --security-opt seccomp=unconfined); for a "
              "service, see what systemd-analyze security says of SystemCallFilter");
}

Finding check_own_label(const Machine &machine) {
  const std::string subject = "own LSM label";
  std::string label = first_line(machine.roots.proc / "self/attr/current");
  label.erase(std::find(label.begin(), label.end(), '\0'), label.end());
  if (label.empty() || label == "unconfined" || label == "kernel")
    return ok(subject, "none that confines");
  if (label.ends_with("(complain)"))
    return ok(subject, fmt::format("{}, which AppArmor only logs", label));
  if (label.ends_with(")"))
    return note(subject,
                fmt::format("AppArmor's profile {}: it must allow ptrace of the clients, "
                            "and /dev",
                            label),
                "start the container without (podman run --security-opt apparmor=unconfined), or "
                "add `ptrace (trace, read),` to the profile");
  const std::string domain = selinux_domain(label);
  if (domain.empty() || std::ranges::find(unconfined_domains, domain) != unconfined_domains.end())
    return ok(subject, fmt::format("{}, which is not confined", label));
  if (first_line(machine.roots.kernel.sys / "fs/selinux/enforce") == "0")
    return ok(subject, fmt::format("{}, and SELinux is permissive", label));
  return note(subject,
              fmt::format("SELinux's domain {}: it must allow ptrace of the clients, and "
                          "making nodes in /dev",
                          domain),
              "start the container without (podman run --security-opt label=disable); for a "
              "service: semanage permissive -a " +
                  domain);
}

} // namespace vfio_shim::cli::doctor
