// SPDX-License-Identifier: MIT
#include "observe/process_identity.hpp"

#include "vfio_shim/command_name.hpp"

#include <fstream>
#include <optional>
#include <sstream>

#include <fmt/format.h>

namespace vfio_shim::observe {

namespace {

struct Stat {
  char state = 0;
  std::uint64_t started = 0;
};

/// /proc/PID/stat: "PID (COMMAND) STATE ...", where COMMAND may itself hold spaces and brackets.
std::optional<Stat> read_stat(Pid pid, const std::filesystem::path &proc) {
  std::ifstream file(proc / std::to_string(pid.value) / "stat");
  std::string text;
  // Unlike an istreambuf_iterator, it does not throw if the process has gone, or reading fails.
  std::getline(file, text, '\0');
  const auto close = text.rfind(')');
  if (close == std::string::npos)
    return std::nullopt;

  Stat stat;
  std::istringstream fields(text.substr(close + 1));
  fields >> stat.state;
  // The state is field 3, starttime field 22: proc_pid_stat(5).
  std::string skipped;
  for (int field = 4; field < 22; ++field)
    fields >> skipped;
  if (!(fields >> stat.started))
    return std::nullopt;
  return stat;
}

} // namespace

ProcessIdentity identify(Pid pid, const std::filesystem::path &proc) {
  const auto stat = read_stat(pid, proc);
  if (!stat)
    return {.pid = pid, .started = 0, .command = {}};
  return {.pid = pid, .started = stat->started, .command = command_name(pid, proc)};
}

bool still_runs(Pid pid, std::uint64_t started, const std::filesystem::path &proc) {
  const auto stat = read_stat(pid, proc);
  return stat && stat->started == started && stat->state != 'Z' && stat->state != 'X';
}

} // namespace vfio_shim::observe
