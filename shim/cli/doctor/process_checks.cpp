// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/system_files.hpp"

#include "vfio_shim/result.hpp"

#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace vfio_shim::cli::doctor {

namespace {

namespace fs = std::filesystem;

bool has_capability(std::uint64_t capabilities, unsigned int capability) {
  return (capabilities >> capability & 1U) != 0;
}

/// The soft and the hard limit, as /proc/self/limits has them; nothing if it is not there.
std::optional<std::pair<std::string, std::string>> limit_of(const Machine &machine,
                                                            std::string_view name) {
  const auto fields = fields_of(machine.roots.proc / "self/limits", name);
  if (fields.size() < 2)
    return std::nullopt;
  return std::pair{fields[0], fields[1]};
}

} // namespace

Finding check_privileges(const Machine &machine) {
  const std::string subject = "privileges";
  const fs::path status = machine.roots.proc / "self/status";
  const auto users = fields_of(status, "Uid:");
  if (users.size() > 1 && users[1] != "0")
    return missing(subject, "not root", "sudo vfio-shim doctor");
  const auto uid_map = words_of(machine.roots.proc / "self/uid_map");
  if (uid_map.size() >= 3 && (uid_map[1] != "0" || uid_map[2] != "4294967295"))
    return missing(subject, "root, but only in a user namespace",
                   "run it outside of the user namespace");
  const auto fields = fields_of(status, "CapEff:");
  const auto effective = fields.empty() ? std::nullopt : number(fields[0], 16);
  if (!effective)
    return note(subject, "cannot tell: /proc/self/status does not say");
  std::vector<std::string> lacking;
  if (!has_capability(*effective, CAP_SYS_ADMIN))
    lacking.emplace_back("SYS_ADMIN");
  if (!has_capability(*effective, CAP_SYS_PTRACE))
    lacking.emplace_back("SYS_PTRACE");
  if (!lacking.empty())
    return missing(subject, fmt::format("root without CAP_{}", fmt::join(lacking, ", CAP_")),
                   fmt::format("start the container with them (docker run --cap-add {})",
                               fmt::join(lacking, " --cap-add ")));
  return ok(subject, "root, with CAP_SYS_ADMIN and CAP_SYS_PTRACE");
}

Finding check_client_memory(const Machine &machine) {
  const std::string subject = "client memory";
  switch (machine.cross_memory_error) {
  case 0:
    return ok(subject, "process_vm_readv works");
  case ENOSYS:
    return missing(subject, "no process_vm_readv in this kernel",
                   rebuild_with("CROSS_MEMORY_ATTACH"));
  default:
    return missing(subject,
                   fmt::format("process_vm_readv: {}", errno_name(machine.cross_memory_error)),
                   "allow it to this container (docker run --cap-add SYS_PTRACE)");
  }
}

Finding check_client_descriptors(const Machine &machine) {
  const std::string subject = "client descriptors";
  switch (machine.file_comparison_error) {
  case 0:
    return ok(subject, "kcmp works");
  case ENOSYS:
    return missing(subject, "no kcmp in this kernel", rebuild_with("KCMP"));
  default:
    return missing(subject, fmt::format("kcmp: {}", errno_name(machine.file_comparison_error)),
                   "allow it to this container (docker run --cap-add SYS_PTRACE)");
  }
}

Finding check_borrowing(const Machine &machine) {
  const std::string subject = "ptrace";
  const std::string scope = first_line(machine.roots.proc / "sys/kernel/yama/ptrace_scope");
  if (scope == "3") // No attach to anybody, by anybody, until the next boot.
    return missing(
        subject, "forbidden even to root (kernel.yama.ptrace_scope is 3)",
        "set kernel.yama.ptrace_scope=2 in /etc/sysctl.d, and reboot (3 cannot be undone)");
  return ok(subject, scope.empty()
                         ? "allowed"
                         : fmt::format("allowed to root (kernel.yama.ptrace_scope is {})", scope));
}

Finding check_filtered_clients(const Machine &machine) {
  const std::string subject = "seccomp clients";
  // The file comes with the option, and the option with PTRACE_O_SUSPEND_SECCOMP.
  if (is_there(machine.roots.proc / "sys/kernel/ns_last_pid") ||
      machine.config.of("CHECKPOINT_RESTORE") == KernelConfig::Setting::built_in)
    return ok(subject, "their filters can be suspended while they are borrowed");
  return note(subject, "their filters will hit the shim's calls too",
              rebuild_with("CHECKPOINT_RESTORE"));
}

Finding check_ledger(const Machine &machine) {
  const std::string subject = "/run";
  constexpr std::uint64_t enough = std::uint64_t{16} << 20U;
  struct statvfs status {};
  if (::statvfs(machine.roots.run.c_str(), &status) != 0)
    return missing(subject, "is not there: the ledger needs it",
                   "mkdir -p -m 755 /run && mount -t tmpfs -o mode=755 tmpfs /run");
  if (::access(machine.roots.run.c_str(), W_OK) != 0 || (status.f_flag & ST_RDONLY) != 0)
    return missing(subject, "cannot be written to: the ledger needs it",
                   "mount -o remount,rw /run");
  const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (free < enough)
    return note(subject,
                fmt::format("only {} KiB free: where the ledger finds no room, clients get ENOMEM",
                            free >> 10U),
                "mount -o remount,size=256m /run");
  return ok(subject, "can be written to");
}

Finding check_limits(const Machine &machine) {
  const std::string subject = "limits";
  constexpr std::uint64_t enough_files = 1024;
  const auto files = limit_of(machine, "Max open files");
  const auto locked = limit_of(machine, "Max locked memory");
  if (!files || !locked)
    return note(subject, "cannot tell: no /proc/self/limits");
  if (const auto hard = number(files->second); hard && *hard < enough_files)
    return note(subject, fmt::format("at most {} open files: too few for many clients", *hard),
                "ulimit -n 65536");
  if (const auto soft = number(locked->first))
    return note(subject,
                fmt::format("an unprivileged client started from here can map {} MiB at most",
                            *soft >> 20U),
                "ulimit -l unlimited  (before the client is started)");
  return ok(subject, fmt::format("{} open files, locked memory unlimited", files->second));
}

Finding check_daemon(const Machine &machine, const std::string &prefix) {
  const std::string subject = "daemon";
  std::vector<std::string> serving;
  for (const auto &[pid, served] : machine.daemons)
    if (prefix.empty() || prefix == served)
      serving.push_back(fmt::format("pid {} serves /dev/{}", pid.value, served));
  if (!serving.empty())
    return ok(subject, fmt::format("{}", fmt::join(serving, ", ")));
  if (prefix.empty())
    return note(subject, "none serves", "vfio-shim serve");
  return note(subject, fmt::format("none serves /dev/{}", prefix),
              fmt::format("vfio-shim serve --prefix {}", prefix));
}

} // namespace vfio_shim::cli::doctor
