// SPDX-License-Identifier: MIT
/// @file
/// One open file of a node, as records name it.
#pragma once

#include "observe/usage_keeper.hpp"

#include "vfio_shim/units.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

namespace vfio_shim::observe {

/// An open container or group: its number, and who makes calls on it. Thread-safe.
class ObservedFile {
public:
  /// The process behind a thread.
  struct Caller {
    Pid pid;
    std::array<char, 16> command{}; ///< May fill all of it.
  };

  /// @param group Of a group's file.
  /// @param program Where to count what is done with it; may be nullptr.
  ObservedFile(FileNumber number, std::optional<GroupId> group, Pid opener,
               std::shared_ptr<LiveUse> program);

  FileNumber number() const { return number_; }
  std::optional<GroupId> group() const { return group_; }
  const Caller &opener() const { return opener_; }
  LiveUse *program() const { return program_.get(); }

  /// Who @p thread belongs to. Looked up once for each thread, and once more when there are many.
  Caller caller(Tid thread, const std::function<Pid()> &process_of_thread);

private:
  static constexpr std::size_t most_remembered = 64;

  const FileNumber number_;
  const std::optional<GroupId> group_;
  const Caller opener_;
  const std::shared_ptr<LiveUse> program_;
  std::mutex mutex_; ///< Guards callers_.
  std::map<Tid, Caller> callers_;
};

} // namespace vfio_shim::observe
