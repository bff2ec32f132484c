// SPDX-License-Identifier: MIT
/// @file
/// Notes what programs use while they use it.
#pragma once

#include "observe/usage_book.hpp"

#include "vfio_shim/units.hpp"

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

namespace vfio_shim::observe {

/// What one program has used since it was last written down. Thread-safe, lock-free.
class LiveUse {
public:
  void add(const trace::Record &record);
  /// What there is; it begins anew from nothing.
  ProgramUse take();

private:
  struct Counts {
    std::atomic<std::uint64_t> calls;
    std::atomic<std::uint64_t> failed;
    std::atomic<std::int64_t> first;
    std::atomic<std::int64_t> last;
  };
  std::array<Counts, features> counts_{};
};

/// Keeps the usage book of a state directory, together with other daemons that have the same one.
///
/// A call costs some relaxed additions; the file is written every few seconds by a thread of its
/// own. A file that cannot be written is logged once; a damaged one is put aside, and a new one
/// begun.
class UsageKeeper {
public:
  /// @param state The directory; made if it is not there.
  explicit UsageKeeper(std::filesystem::path state);

  UsageKeeper(const UsageKeeper &) = delete;
  UsageKeeper &operator=(const UsageKeeper &) = delete;
  /// As finish().
  ~UsageKeeper();

  /// Writes down what is left. What is used afterwards is lost.
  void finish();

  /// Where to count what the process does. By its executable: one look at /proc.
  std::shared_ptr<LiveUse> program_of(Pid process);

private:
  void keep(const std::stop_token &stop);
  void write_down();
  /// Takes what is new out of every program, and forgets those that have nothing open.
  void collect();
  Result<void> merge_into_file();
  void complain(const Error &error);

  const std::filesystem::path state_;
  std::mutex mutex_; ///< Guards programs_.
  std::map<std::string, std::shared_ptr<LiveUse>> programs_;
  UsageBook unwritten_; ///< Of the writer.
  bool complained_ = false;
  std::condition_variable_any stopping_;
  std::jthread writer_; ///< Last: it uses all of the above.
};

} // namespace vfio_shim::observe
