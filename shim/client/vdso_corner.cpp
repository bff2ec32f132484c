// SPDX-License-Identifier: MIT
#include "client/vdso_corner.hpp"

#include "vfio_shim/process_memory.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <fstream>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ptrace.h>

namespace vfio_shim::client {

namespace {

using arch::ClientCode;
using arch::Mending;

constexpr std::size_t mending_words = sizeof(Mending) / sizeof(std::uint64_t);
static_assert(sizeof(Mending) % sizeof(std::uint64_t) == 0);

using Words = std::array<std::uint64_t, ClientCode::word_count + mending_words>;

constexpr Bytes code_size{ClientCode::word_count * ClientCode::word_size};

/// The code, and behind it what it works with.
Words contents(const Mending &mending) {
  constexpr auto code = ClientCode(code_size, 0).words(); // The vDSO is not to be written to.
  const auto data = std::bit_cast<std::array<std::uint64_t, mending_words>>(mending);
  Words words{};
  std::ranges::copy(data, std::ranges::copy(code, words.begin()).out);
  return words;
}

/// Where the thread's vDSO ends.
std::optional<ClientAddr> end_of_vdso(Tid thread) {
  std::ifstream maps(fmt::format("/proc/{}/maps", thread.value));
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with("[vdso]"))
      continue;
    constexpr int hexadecimal = 16;
    return ClientAddr{std::stoull(line.substr(line.find('-') + 1), nullptr, hexadecimal)};
  }
  return std::nullopt;
}

bool is_unused(Tid thread, ClientAddr place) {
  Words words{};
  return read_memory(thread, place, std::as_writable_bytes(std::span(words))) && words == Words{};
}

/// Keeps others off the corner @p number of the thread's process, as long as @p file is open.
bool lock(const Fd &file, int number) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = number;
  range.l_len = 1;
  return ::fcntl(file.get(), F_OFD_SETLK, &range) == 0;
}

} // namespace

bool poke(Tid thread, ClientAddr place, std::span<const std::uint64_t> words) {
  for (const std::uint64_t word : words) {
    if (::ptrace(PTRACE_POKEDATA, thread.value, place.value, word) != 0)
      return false;
    place = place + Bytes{sizeof(word)};
  }
  return true;
}

std::optional<VdsoCorner> VdsoCorner::take(Tid thread, Pid process, const Mending &mending) {
  constexpr int corners = 4;
  // Any file of the process would do that nobody else has a reason to lock.
  Fd locks{::open(fmt::format("/proc/{}/comm", process.value).c_str(), O_RDWR | O_CLOEXEC)};
  const auto end = locks ? end_of_vdso(thread) : std::nullopt;
  for (int number = 0; end && number < corners; ++number) {
    const ClientAddr place{end->value - (static_cast<std::uint64_t>(number) + 1) * sizeof(Words)};
    if (!lock(locks, number) || !is_unused(thread, place))
      continue;
    VdsoCorner taken(thread, place, std::move(locks));
    if (poke(thread, place, contents(mending)))
      return taken;
    return std::nullopt;
  }
  return std::nullopt;
}

VdsoCorner::VdsoCorner(VdsoCorner &&other) noexcept
    : thread_(other.thread_),
      place_(std::exchange(other.place_, {})),
      lock_(std::move(other.lock_)) {}

VdsoCorner &VdsoCorner::operator=(VdsoCorner &&other) noexcept {
  std::swap(thread_, other.thread_);
  std::swap(place_, other.place_);
  std::swap(lock_, other.lock_);
  return *this;
}

VdsoCorner::~VdsoCorner() {
  if (place_.value != 0)
    (void)poke(thread_, place_, Words{});
}

} // namespace vfio_shim::client
