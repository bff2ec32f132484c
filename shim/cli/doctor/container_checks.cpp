// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/system_files.hpp"

#include <sstream>

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

} // namespace vfio_shim::cli::doctor
