#include "client/thread_state.hpp"

#include "vfio_shim/fd.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>

namespace vfio_shim::client {

namespace {

/// The number after "\n<key>:\t" in /proc/<tid>/status; 0 if the kernel does not show the key.
std::uint64_t status_number(std::string_view status, std::string_view key, int base) {
  const std::string line = fmt::format("\n{}:\t", key);
  const auto at = status.find(line);
  if (at == std::string_view::npos)
    return 0;
  const std::string_view value = status.substr(at + line.size());
  std::uint64_t number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number, base);
  return number;
}

using FileText = std::array<char, 4096>;

/// The contents of /proc/<tid>/<name>, in @p text; empty if the thread is gone.
std::string_view read_proc(Tid thread, const char *name, FileText &text) {
  const Fd file{
      ::open(fmt::format("/proc/{}/{}", thread.value, name).c_str(), O_RDONLY | O_CLOEXEC)};
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
  return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

} // namespace

Result<ThreadState> read_thread_state(Tid thread) {
  FileText text;
  const std::string_view status = read_proc(thread, "status", text);
  if (status.empty())
    return fail(ESRCH, fmt::format("/proc/{}/status", thread.value));
  constexpr std::uint64_t sigtrap = std::uint64_t{1} << (SIGTRAP - 1);
  return ThreadState{.process = Pid{static_cast<int>(status_number(status, "Tgid", 10))},
                     .sandboxed = status_number(status, "Seccomp", 10) != 0,
                     .ignores_sigtrap = (status_number(status, "SigIgn", 16) & sigtrap) != 0};
}

bool is_exiting(Tid thread) {
  constexpr unsigned long pf_exiting = 0x4; // include/linux/sched.h
  constexpr int fields_before_flags = 6;    // State, ppid, pgrp, session, tty, tpgid.
  FileText text;
  std::string_view stat = read_proc(thread, "stat", text);
  // The command name comes before the fields, in parentheses, and may contain anything.
  stat.remove_prefix(std::min(stat.size(), stat.rfind(')') + 2));
  for (int field = 0; field < fields_before_flags && !stat.empty(); ++field)
    stat.remove_prefix(std::min(stat.size(), stat.find(' ') + 1));
  unsigned long flags = pf_exiting;
  std::from_chars(stat.data(), stat.data() + stat.size(), flags);
  return (flags & pf_exiting) != 0;
}

} // namespace vfio_shim::client
