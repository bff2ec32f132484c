// SPDX-License-Identifier: MIT
/// @file
/// What `vfio-shim top` shows of a daemon.
#pragma once

#include "observe/ledger_reader.hpp"
#include "observe/statistics.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// What a daemon's shared memory said at one moment.
struct Look {
  std::chrono::steady_clock::time_point at;
  observe::Snapshot snapshot;
  std::vector<observe::Statistics::Kind> kinds;
};

/// Several lines for people, the last one ends with a newline: what it serves, every kind of call
/// that there was, and who has what. Holds no control characters.
///
/// @param before The same daemon somewhat earlier: rates and latencies are of the calls since. If
///        nullptr, they are of all since the daemon's start.
/// @param time Tells how long ago things were.
std::string top_text(const Look &now, const Look *before, observe::Time time);

} // namespace vfio_shim::cli
