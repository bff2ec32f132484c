// SPDX-License-Identifier: MIT
/// @file
/// Writes a recording.
#pragma once

#include "observe/trace_layout.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <atomic>
#include <boost/lockfree/queue.hpp>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

namespace vfio_shim::observe {

/// A file that records are appended to, by a thread of its own.
///
/// Whoever adds a record leaves it in a queue and goes on: no lock, no system call. If the file
/// cannot take them as fast as they come, records are lost, and counted; if it cannot be written
/// any more (a full disk), that is logged once, and what is there stays readable. If the daemon
/// dies, what it had not written yet is lost: a fraction of a second.
class Recorder {
public:
  /// Makes @p file, in place of one that is there. Readable by its owner only: it holds what
  /// clients say.
  /// @param prefix The nodes' directory below /dev.
  /// @param backend What carries the calls out.
  /// @return The errno of opening or writing it.
  static Result<std::unique_ptr<Recorder>>
  create(const std::filesystem::path &file, std::string_view prefix, std::string_view backend);

  /// Goes on with the recording that a worker has left. What it had not written yet is lost.
  /// @return EPROTO: the file is no recording. The errno of opening or reading it.
  static Result<std::unique_ptr<Recorder>> go_on(const std::filesystem::path &file);

  Recorder(const Recorder &) = delete;
  Recorder &operator=(const Recorder &) = delete;
  /// As finish().
  ~Recorder();

  /// Writes what is left, and the end. What is added afterwards is lost.
  void finish();

  /// Writes what is left. Another worker goes on with the recording.
  void pause();

  /// When the recording began, on the clock that never jumps.
  std::chrono::steady_clock::time_point began() const { return began_; }

  /// Adds a record. From any thread; never blocks.
  void add(const trace::Record &record);

private:
  static constexpr std::size_t queued_records = 16384;
  using Queue = boost::lockfree::queue<trace::Record, boost::lockfree::capacity<queued_records>>;

  using Clock = std::chrono::steady_clock;

  /// @param began When the recording began, and @param written how many records it has.
  Recorder(std::filesystem::path path, Fd file, Clock::time_point began, std::uint64_t written);

  void write_as_they_come(const std::stop_token &stop);
  void write_what_is_there();
  void write_end();
  void write(const void *bytes, std::size_t size);

  std::filesystem::path path_;
  Fd file_;
  const Clock::time_point began_;
  std::atomic<bool> goes_on_ = false; ///< Without an end.
  Queue queue_;
  std::atomic<std::uint64_t> lost_ = 0;
  std::atomic<bool> failed_ = false;
  std::uint64_t written_;
  std::mutex mutex_;
  std::condition_variable_any stopping_;
  std::jthread writer_; ///< Last: it uses all of the above.
};

} // namespace vfio_shim::observe
