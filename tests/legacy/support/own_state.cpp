// SPDX-License-Identifier: MIT
#include "own_state.h"

#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <system_error>

#include <sys/syscall.h>
#include <unistd.h>

#include "daemon.h"
#include "patience.h"

namespace legacy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// The daemon leaves one in a client that maps, out of the way of the client's own descriptors: an
/// eventfd, or on a backend that is the kernel's own container, that.
constexpr int least_witness = 512;

void add_open_files(OwnState &state) {
  for (const auto &entry : fs::directory_iterator{"/proc/self/fd"}) {
    const std::string name = entry.path().filename();
    int number = -1;
    std::from_chars(name.data(), name.data() + name.size(), number);
    std::error_code gone;
    const std::string file = fs::read_symlink(entry.path(), gone);
    const bool is_the_directory = file.ends_with("/fd");
    if (!gone && number >= least_witness)
      ++state.witnesses;
    else if (!gone && !is_the_directory)
      state.descriptors.emplace(number, file);
  }
}

/// The kernel's line about it; empty if there is nothing.
std::string pinned_or_locked() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    const bool counts = line.starts_with("VmPin:") || line.starts_with("VmLck:");
    if (counts && line.find(" 0 kB") == std::string::npos)
      return line;
  }
  return {};
}

template <typename State>
testing::AssertionResult becomes(const OwnState &before, State state) {
  OwnState now;
  if (within(1s, [&] { return (now = state()) == before; }))
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << "before: " << before << "\nnow: " << now;
}

} // namespace

std::uint64_t blocked_signals() {
  std::uint64_t mask = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, sizeof(mask));
  return mask;
}

OwnState OwnState::now() {
  OwnState state;
  add_open_files(state);
  state.signals = blocked_signals();
  state.threads = threads_of(::getpid());
  return state;
}

std::ostream &operator<<(std::ostream &out, const OwnState &state) {
  out << state.threads << " threads, blocked signals 0x" << std::hex << state.signals << std::dec
      << ", " << state.witnesses << " witnesses, descriptors";
  for (const auto &[number, file] : state.descriptors)
    out << " " << number << "=" << file;
  return out;
}

testing::AssertionResult is_as_before(const OwnState &before) {
  return becomes(before, OwnState::now);
}

testing::AssertionResult is_as_before_any_map(const OwnState &before) {
  return becomes(before, [&] {
    OwnState now = OwnState::now();
    if (now.witnesses == before.witnesses + 1)
      --now.witnesses;
    return now;
  });
}

testing::AssertionResult nothing_is_pinned() {
  std::string amount;
  if (within(2s, [&] { return (amount = pinned_or_locked()).empty(); }))
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << amount;
}

} // namespace legacy
