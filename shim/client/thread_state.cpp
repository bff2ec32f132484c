#include "client/thread_state.hpp"

#include "vfio_shim/fd.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <csignal>
#include <string_view>

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

} // namespace

Result<ThreadState> read_thread_state(Tid thread) {
  const Fd file{::open(fmt::format("/proc/{}/status", thread.value).c_str(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 4096> text{};
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
  if (size <= 0)
    return fail(ESRCH, fmt::format("/proc/{}/status", thread.value));
  const std::string_view status(text.data(), static_cast<std::size_t>(size));
  constexpr std::uint64_t sigtrap = std::uint64_t{1} << (SIGTRAP - 1);
  return ThreadState{.process = Pid{static_cast<int>(status_number(status, "Tgid", 10))},
                     .sandboxed = status_number(status, "Seccomp", 10) != 0,
                     .ignores_sigtrap = (status_number(status, "SigIgn", 16) & sigtrap) != 0};
}

} // namespace vfio_shim::client
