// SPDX-License-Identifier: MIT
/// @file
/// Makes recorded calls again, as a client of its own.
#pragma once

#include "cli/replay/recorded_memory.hpp"
#include "cli/replay/turns.hpp"
#include "observe/trace_reader.hpp"
#include "rules/legacy_call.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// Which groups and devices stand for the recorded ones.
struct Cast {
  std::map<std::uint32_t, std::uint32_t> groups;
  std::map<std::string, std::string> devices; ///< By their names.
};

/// What a call that was made again was answered.
struct Reply {
  long result = 0;
  int error = 0;
};

/// The recorded programs, without their programs: one thread for each of their threads opens the
/// nodes and makes the calls, with arguments as recorded; addresses and descriptors are this
/// process's own.
class Player {
public:
  /// @param recording Outlives the player.
  /// @param nodes The directory of the nodes: "/dev/vfio".
  /// @param paced Call no sooner than it was called when it was recorded.
  static Result<std::unique_ptr<Player>> create(const observe::Recording &recording, Cast cast,
                                                std::filesystem::path nodes, bool paced);

  /// Makes all calls. @return One reply for each record, or why the memory could not be had.
  Result<std::vector<Reply>> play();

private:
  using Record = observe::trace::Record;

  Player(const observe::Recording &recording, Cast cast, std::filesystem::path nodes, bool paced,
         RecordedMemory memory)
      : recording_(recording),
        cast_(std::move(cast)),
        nodes_(std::move(nodes)),
        paced_(paced),
        memory_(std::move(memory)),
        turns_(recording.records) {}

  void play_thread(const std::vector<std::size_t> &indices);
  void wait_for_time(const Record &record) const;
  Reply make(const Record &record);
  Reply open(const Record &record);
  Reply call(const Record &record);
  Reply get_device(const Record &record, rules::GetDeviceFd get, int file);
  Result<void> prepare(const Record &record);
  void put_in_own(const Record &record, rules::LegacyCall &call) const;
  static std::vector<std::byte> argument_for(const Record &record, const rules::LegacyCall &call);
  int descriptor_of(std::uint32_t file) const;

  const observe::Recording &recording_;
  const Cast cast_;
  const std::filesystem::path nodes_;
  const bool paced_;
  RecordedMemory memory_;
  Turns turns_;
  std::chrono::steady_clock::time_point began_;
  std::vector<Reply> replies_;
  mutable std::mutex mutex_; ///< Guards what follows, and memory_.
  std::map<std::uint32_t, Fd> files_;
  std::multimap<std::uint32_t, Fd> devices_; ///< By the number of their group's file.
  std::optional<Error> failure_;
};

} // namespace vfio_shim::cli
