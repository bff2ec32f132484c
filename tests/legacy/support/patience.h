// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <thread>

namespace legacy {

/// Whether `holds()` becomes true within `patience`.
template <typename Condition>
bool within(std::chrono::milliseconds patience, Condition holds) {
  constexpr std::chrono::milliseconds pause{10};
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

} // namespace legacy
