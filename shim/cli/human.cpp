// SPDX-License-Identifier: MIT
#include "cli/human.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace vfio_shim::cli {

std::string counted(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string human_bytes(Bytes bytes) {
  static constexpr std::array<std::string_view, 7> units = {"B",   "KiB", "MiB", "GiB",
                                                            "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  std::uint64_t size = 1;
  while (unit + 1 < units.size() && bytes.value / size >= 1024) {
    size *= 1024;
    ++unit;
  }
  if (bytes.value % size == 0)
    return fmt::format("{} {}", bytes.value / size, units[unit]);
  return fmt::format("{:.1f} {}", static_cast<double>(bytes.value) / static_cast<double>(size),
                     units[unit]);
}

std::string human_duration(std::chrono::seconds duration) {
  const auto seconds = std::max<long>(duration.count(), 0);
  const auto minutes = seconds / 60;
  const auto hours = minutes / 60;
  if (hours >= 24)
    return fmt::format("{} d {} h", hours / 24, hours % 24);
  if (hours > 0)
    return fmt::format("{} h {} min", hours, minutes % 60);
  if (minutes > 0)
    return fmt::format("{} min", minutes);
  return fmt::format("{} s", seconds);
}

std::string human_latency(std::chrono::nanoseconds latency) {
  constexpr std::array<std::string_view, 4> units = {"ns", "us", "ms", "s"};
  auto number = static_cast<double>(latency.count());
  std::size_t unit = 0;
  while (unit + 1 < units.size() && number >= 999.5) {
    number /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 || number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", number, decimals, units[unit]);
}

} // namespace vfio_shim::cli
