#include "client/thread_state.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <optional>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>

namespace vfio_shim::client {

namespace {

using FileText = std::array<char, 4096>;

/// The contents of /proc/<tid>/<name>, in @p text; empty if the thread is gone.
std::string_view read_proc(Tid thread, const char *name, FileText &text) {
  const Fd file{
      ::open(fmt::format("/proc/{}/{}", thread.value, name).c_str(), O_RDONLY | O_CLOEXEC)};
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
  return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc{})
    return std::nullopt;
  return number;
}

/// The number after "\n<key>:\t" in /proc/<tid>/status.
std::optional<std::uint64_t> status_number(Tid thread, std::string_view key) {
  FileText text;
  const std::string_view status = read_proc(thread, "status", text);
  const std::string line = fmt::format("\n{}:\t", key);
  const auto at = status.find(line);
  if (at == std::string_view::npos)
    return std::nullopt;
  return parse_number(status.substr(at + line.size()));
}

/// Fields of /proc/<tid>/stat as proc(5) numbers them.
enum class StatField : std::uint8_t { flags = 9, sigignore = 33 };

/// A field of /proc/<tid>/stat: quicker to read than "status", which looks at the memory as well.
std::optional<std::uint64_t> stat_number(Tid thread, StatField field) {
  constexpr int field_after_name = 3;
  FileText text;
  std::string_view stat = read_proc(thread, "stat", text);
  // The command name comes before, in parentheses, and may contain anything.
  stat.remove_prefix(std::min(stat.size(), stat.rfind(')') + 2));
  for (int at = field_after_name; at < static_cast<int>(field) && !stat.empty(); ++at)
    stat.remove_prefix(std::min(stat.size(), stat.find(' ') + 1));
  return parse_number(stat);
}

} // namespace

Result<Pid> thread_group(Tid thread) {
  const auto number = status_number(thread, "Tgid");
  if (!number)
    return fail(ESRCH, fmt::format("/proc/{}/status", thread.value));
  return Pid{static_cast<int>(*number)};
}

bool is_sandboxed(Tid thread) {
  return status_number(thread, "Seccomp").value_or(0) != 0;
}

bool ignores_sigtrap(Tid thread) {
  constexpr std::uint64_t sigtrap = std::uint64_t{1} << (SIGTRAP - 1);
  return (stat_number(thread, StatField::sigignore).value_or(0) & sigtrap) != 0;
}

bool has_ended(const Fd &process) {
  pollfd poll{.fd = process.get(), .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, 0) != 0;
}

bool is_exiting(Tid thread) {
  constexpr std::uint64_t pf_exiting = 0x4; // include/linux/sched.h
  return (stat_number(thread, StatField::flags).value_or(pf_exiting) & pf_exiting) != 0;
}

} // namespace vfio_shim::client
