// SPDX-License-Identifier: MIT
#include "daemon.hpp"

#include "client/answer.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include <sys/stat.h>
#include <unistd.h>

#include "process.hpp"
#include "text.hpp"

namespace chaos {

namespace fs = std::filesystem;

namespace {

constexpr const char *cgroup = "/sys/fs/cgroup/chaos-daemon";
constexpr const char *root_cgroup = "/sys/fs/cgroup";

std::optional<pid_t> number_of(const std::string &name) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc{} || end != name.data() + name.size())
    return std::nullopt;
  return pid;
}

bool serves(pid_t pid) {
  const std::string arguments = read_file(text("/proc/%d/cmdline", pid));
  const auto end_of_first = arguments.find('\0');
  return end_of_first != std::string::npos &&
         fs::path{arguments.substr(0, end_of_first)}.filename() == "vfio-shim" &&
         arguments.compare(end_of_first + 1, 6, std::string{"serve\0", 6}) == 0;
}

pid_t parent_of(pid_t pid) {
  return static_cast<pid_t>(
      number_after(read_file(text("/proc/%d/status", pid)), "PPid:").value_or(0));
}

/// "socket" for "socket:[4711]", "/dev/cuse" for itself.
std::string kind_of(const std::string &target) {
  for (const char *kind : {"socket:", "pipe:"})
    if (target.starts_with(kind))
      return kind;
  if (target.starts_with("/proc/"))
    return "/proc/...";
  if (target.starts_with("/dev/vfio/devices/"))
    return "/dev/vfio/devices/...";
  return target;
}

} // namespace

Daemon Daemon::find(pid_t wanted) {
  if (wanted != 0)
    return Daemon{wanted};
  std::vector<pid_t> found;
  for (const auto &entry : fs::directory_iterator{"/proc"})
    if (const auto pid = number_of(entry.path().filename());
        pid && serves(*pid) && !serves(parent_of(*pid)))
      found.push_back(*pid);
  if (found.size() != 1)
    throw std::runtime_error{text("there are %zu daemons: say which with --daemon", found.size())};
  return Daemon{found[0]};
}

pid_t Daemon::pid() const {
  const std::string children = read_file(text("/proc/%d/task/%d/children", keeper_, keeper_));
  std::istringstream numbers{children};
  for (pid_t child = 0; numbers >> child;)
    if (serves(child)) // A dead one has no arguments any more.
      return child;
  return 0;
}

bool Daemon::is_alive() const {
  const std::string status = read_file(text("/proc/%d/status", keeper_));
  return !status.empty() && status.find("\nState:\tZ") == std::string::npos;
}

std::map<std::string, long> Daemon::descriptors() const {
  std::map<std::string, long> kinds;
  std::error_code error;
  for (const auto &entry : fs::directory_iterator{text("/proc/%d/fd", pid()), error}) {
    const fs::path target = fs::read_symlink(entry.path(), error);
    if (!error)
      ++kinds[kind_of(target)];
  }
  return kinds;
}

long Daemon::threads() const {
  const std::string status = read_file(text("/proc/%d/status", pid()));
  return static_cast<long>(number_after(status, "Threads:").value_or(0));
}

long Daemon::memory_kib() const {
  const std::string status = read_file(text("/proc/%d/status", pid()));
  return static_cast<long>(number_after(status, "RssAnon:").value_or(0));
}

std::optional<long> Daemon::open_files() const {
  const std::string command = text("/proc/%d/exe status --json 2>&1", keeper_);
  FILE *output = ::popen(command.c_str(), "r");
  if (output == nullptr)
    return std::nullopt;
  std::string report;
  std::array<char, 4096> piece;
  for (std::size_t size; (size = std::fread(piece.data(), 1, piece.size(), output)) > 0;)
    report.append(piece.data(), size);
  if (::pclose(output) != 0)
    return std::nullopt;
  // Each file that is open is told with the time at which it was opened.
  long count = 0;
  for (auto at = report.find("\"opened\""); at != std::string::npos;
       at = report.find("\"opened\"", at + 1))
    ++count;
  return count;
}

Shortage::Shortage(const Daemon &daemon, __rlimit_resource resource, rlim_t soft)
    : pid_(daemon.pid()), resource_(resource) {
  legacy::Answer::of(::prlimit(pid_, resource_, nullptr, &before_)).or_throw("prlimit");
  const rlimit low{std::min(soft, before_.rlim_max), before_.rlim_max};
  legacy::Answer::of(::prlimit(pid_, resource_, &low, nullptr)).or_throw("prlimit");
}

Shortage::~Shortage() {
  ::prlimit(pid_, resource_, &before_, nullptr);
}

DaemonsCgroup::DaemonsCgroup(const Daemon &daemon) : pid_(daemon.pid()) {
  if (const int error =
          write_file(std::string{root_cgroup} + "/cgroup.subtree_control", "+pids +memory"))
    throw std::system_error{error, std::generic_category(), "no cgroup controllers"};
  if (::mkdir(cgroup, 0755) != 0 && errno != EEXIST)
    legacy::throw_errno("mkdir of the daemon's cgroup");
  write("cgroup.procs", std::to_string(pid_));
}

DaemonsCgroup::~DaemonsCgroup() {
  write_file(std::string{root_cgroup} + "/cgroup.procs", std::to_string(pid_));
  ::rmdir(cgroup);
}

std::string DaemonsCgroup::read(const std::string &file) {
  return read_file(std::string{cgroup} + "/" + file);
}

void DaemonsCgroup::write(const std::string &file, const std::string &value) {
  if (const int error = write_file(std::string{cgroup} + "/" + file, value))
    throw std::system_error{error, std::generic_category(), "write " + value + " to " + file};
}

} // namespace chaos
