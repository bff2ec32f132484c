// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <string_view>

#include "operation.h"
#include "twin.h"

namespace twin {

/// Counts what was carried out, and how often it succeeded (whether the random scripts are about
/// what they should be about), and the time it took.
class Tally {
public:
  using Duration = std::chrono::steady_clock::duration;

  /// How long it took the reference, and the shim.
  void count(const Operation &operation, const Outcome &outcome, Duration right, Duration shim);
  void count_script() { ++scripts_; }

  std::uint64_t operations() const { return operations_; }

  friend std::ostream &operator<<(std::ostream &out, const Tally &tally);

private:
  struct Counts {
    std::uint64_t all = 0;
    std::uint64_t succeeded = 0;
    Duration right{};
    Duration shim{};
    std::map<int, std::uint64_t> errors;
  };
  std::map<std::string_view, Counts> by_name_;
  std::uint64_t operations_ = 0;
  std::uint64_t scripts_ = 0;
};

} // namespace twin
