// SPDX-License-Identifier: MIT
#include "client/thread_state.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>

namespace vfio_shim::client {

namespace {

using FileText = std::array<char, 4096>;

/// The contents of /proc/<tid>/<name>, in @p text.
/// @return ESRCH: the thread is gone. Anything else: it cannot be told.
Result<std::string_view> read_proc(Tid thread, const char *name, FileText &text) {
  const std::string path = fmt::format("/proc/{}/{}", thread.value, name);
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
  if (size < 0)
    return fail(errno == ENOENT ? ESRCH : errno, path);
  return std::string_view(text.data(), static_cast<std::size_t>(size));
}

Result<std::uint64_t> parse_number(std::string_view text, int base) {
  std::uint64_t number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number, base).ec != std::errc{})
    return fail(EIO, "a number in /proc");
  return number;
}

/// The number after "\n<key>:\t" in /proc/<tid>/status.
Result<std::uint64_t> status_number(Tid thread, std::string_view key, int base = 10) {
  FileText text;
  const auto status = read_proc(thread, "status", text);
  if (!status)
    return pass_on(status);
  const std::string line = fmt::format("\n{}:\t", key);
  const auto at = status->find(line);
  if (at == std::string_view::npos)
    return fail(EIO, fmt::format("no {} in /proc/{}/status", key, thread.value));
  return parse_number(status->substr(at + line.size()), base);
}

/// The flags in /proc/<tid>/stat: quicker to read than "status", which looks at the memory as well.
Result<std::uint64_t> task_flags(Tid thread) {
  constexpr int field_after_name = 3;
  constexpr int field_of_flags = 9;
  FileText text;
  const auto whole = read_proc(thread, "stat", text);
  if (!whole)
    return pass_on(whole);
  // The command name comes before, in parentheses, and may contain anything.
  std::string_view stat = *whole;
  stat.remove_prefix(std::min(stat.size(), stat.rfind(')') + 2));
  for (int at = field_after_name; at < field_of_flags && !stat.empty(); ++at)
    stat.remove_prefix(std::min(stat.size(), stat.find(' ') + 1));
  return parse_number(stat, 10);
}

bool is_gone(const Error &error) {
  return error.code == ESRCH;
}

} // namespace

Result<Pid> thread_group(Tid thread) {
  const auto number = status_number(thread, "Tgid");
  if (!number)
    return pass_on(number);
  return Pid{static_cast<int>(*number)};
}

bool is_sandboxed(Tid thread) {
  const auto mode = status_number(thread, "Seccomp");
  return mode ? *mode != 0 : !is_gone(mode.error());
}

bool has_ended(const Fd &process) {
  pollfd poll{.fd = process.get(), .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, 0) > 0;
}

bool is_exiting(Tid thread) {
  constexpr std::uint64_t pf_exiting = 0x4; // include/linux/sched.h
  const auto flags = task_flags(thread);
  return flags ? (*flags & pf_exiting) != 0 : is_gone(flags.error());
}

bool is_being_killed(Tid thread) {
  constexpr int hexadecimal = 16;
  constexpr std::uint64_t sigkill = std::uint64_t{1} << (SIGKILL - 1);
  // Who ends a process, or execs, sends SIGKILL to each of its threads by itself.
  const auto pending = status_number(thread, "SigPnd", hexadecimal);
  if (!pending)
    return is_gone(pending.error());
  return (*pending & sigkill) != 0 || is_exiting(thread);
}

} // namespace vfio_shim::client
