// SPDX-License-Identifier: MIT
/// @file
/// Chance that can be repeated.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>

namespace chaos {

/// Numbers that depend on nothing but what it was made from: (seed, round, client, life...).
class Random {
public:
  Random(std::initializer_list<std::uint64_t> origin) {
    for (const std::uint64_t part : origin)
      state_ = mixed(state_ ^ part);
  }

  std::uint64_t next() { return mixed(state_ += 0x9e3779b97f4a7c15); }
  /// From 0 to @p limit - 1.
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  /// From @p first to @p last.
  std::uint64_t between(std::uint64_t first, std::uint64_t last) {
    return first + below(last - first + 1);
  }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <typename List>
  const auto &pick(const List &list) {
    return list[below(list.size())];
  }
  std::chrono::microseconds time(std::chrono::microseconds shortest,
                                 std::chrono::microseconds longest) {
    return std::chrono::microseconds(between(static_cast<std::uint64_t>(shortest.count()),
                                             static_cast<std::uint64_t>(longest.count())));
  }

private:
  /// The finalizer of SplitMix64.
  static std::uint64_t mixed(std::uint64_t number) {
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
    number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
    return number ^ (number >> 31);
  }

  std::uint64_t state_ = 0x2545f4914f6cdd1d;
};

} // namespace chaos
