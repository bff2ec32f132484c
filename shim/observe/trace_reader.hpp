// SPDX-License-Identifier: MIT
/// @file
/// Reads a recording.
#pragma once

#include "observe/trace_layout.hpp"

#include "vfio_shim/result.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vfio_shim::observe {

/// A recording in memory.
struct Recording {
  /// How it ends.
  enum class End : std::uint8_t {
    whole,   ///< With the daemon's last call.
    running, ///< Its daemon is still writing it.
    missing, ///< Before its daemon did: it died, or the disk was full.
    cut      ///< In the middle of a record.
  };

  std::chrono::system_clock::time_point began;
  std::string kernel;
  std::string prefix;
  std::string backend;
  std::vector<trace::Record> records; ///< In the order of their sequence; none of kind `end`.
  End end = End::whole;
  /// Calls that were served and are not there. Of a recording without its end, those before it.
  std::uint64_t lost = 0;

  /// "FILE: its tail is missing: ..." as one line for people; "" if it is whole or running.
  std::string complaint(const std::filesystem::path &file) const;
};

/// Reads the recording @p file. One that has lost its tail is read as far as it goes.
/// @return The errno of reading it. EPROTO: not a recording, or of a later version. ENODATA: cut
///         off in its header. `where` is one line for people.
Result<Recording> read_recording(const std::filesystem::path &file);

} // namespace vfio_shim::observe
