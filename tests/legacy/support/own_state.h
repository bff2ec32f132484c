// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>

#include <gtest/gtest.h>

namespace legacy {

/// The calling thread's signal mask, as the kernel has it.
std::uint64_t blocked_signals();

/// What a client's calls must leave as it was, seen by one of its threads.
struct OwnState {
  /// Every open file and its number, but the daemon's witnesses.
  std::map<int, std::string> descriptors;
  /// The shim leaves one in a process that maps. Its number does not matter.
  std::size_t witnesses = 0;
  std::uint64_t signals = 0; ///< blocked_signals().
  std::size_t threads = 0;

  static OwnState now();

  friend bool operator==(const OwnState &, const OwnState &) = default;
  friend std::ostream &operator<<(std::ostream &out, const OwnState &state);
};

/// Whether the state is, within a second, as it was `before`.
testing::AssertionResult is_as_before(const OwnState &before);
/// The same, but for the one iommufd that the maps of this process may have left in it since.
testing::AssertionResult is_as_before_any_map(const OwnState &before);

/// Whether none of this process's memory is pinned or locked within a few seconds.
/// What a closed container held may take a moment.
testing::AssertionResult nothing_is_pinned();

} // namespace legacy
