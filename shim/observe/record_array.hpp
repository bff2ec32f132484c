// SPDX-License-Identifier: MIT
/// @file
/// The writer's end of an array of records in shared memory.
#pragma once

#include "observe/ledger_layout.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include <fcntl.h>
#include <sys/statvfs.h>

namespace vfio_shim::observe {

/// Gives records places in an array, and takes them back. Thread-safe.
///
/// Free places are chained through themselves, so that keeping track of them costs no memory of its
/// own; the chain is of this process only and can be made anew by a walk over the used part of the
/// array. adding and removing take no lock and make no system call, but for one fallocate() in each
/// layout::growth of new places: with it a full file system is an error here, not a SIGBUS later.
template <typename Body>
class RecordArray {
public:
  /// @param region Where the whole region is mapped.
  /// @param file The region's descriptor. Both outlive this.
  RecordArray(std::byte *region, int file, layout::Array &array)
      : places_(reinterpret_cast<Committed<Body> *>(region + array.offset)),
        file_(file),
        array_(array) {}

  /// Goes on with what a writer has left that is dead now: finds the free places. To be called
  /// before anything else. @param visit Is told of each record: its number, its body.
  template <typename Visit>
  void adopt(Visit visit) {
    const std::uint32_t used = array_.used.load(std::memory_order_acquire);
    backed_bytes_ =
        (used * sizeof(Committed<Body>) + layout::growth - 1) / layout::growth * layout::growth;
    backed_.store(static_cast<std::uint32_t>(backed_bytes_ / sizeof(Committed<Body>)));
    for (std::uint32_t record = 1; record <= used; ++record)
      if (at(record).settle())
        visit(record, at(record).held());
      else
        give_back(record);
  }

  /// Records @p body. @return Its number, or 0: no room (which is counted).
  std::uint32_t add(const Body &body) {
    const std::uint32_t record = take();
    if (record == 0)
      array_.refused.fetch_add(1, std::memory_order_relaxed);
    else
      at(record).publish(body);
    return record;
  }

  void remove(std::uint32_t record) {
    at(record).retract();
    give_back(record);
  }

  Committed<Body> &at(std::uint32_t record) { return places_[record - 1]; }

private:
  /// The chain's first place is swapped together with a count, so that a place that was taken and
  /// given back meanwhile is not mistaken for the one seen before.
  struct Head {
    std::uint32_t record;
    std::uint32_t count;
  };

  std::uint32_t take() {
    Head head = free_.load(std::memory_order_acquire);
    while (head.record != 0) {
      const Head rest{.record = static_cast<std::uint32_t>(at(head.record).note()),
                      .count = head.count + 1};
      if (free_.compare_exchange_weak(head, rest, std::memory_order_acquire))
        return head.record;
    }
    return take_new();
  }

  void give_back(std::uint32_t record) {
    Head head = free_.load(std::memory_order_relaxed);
    Head longer{};
    do {
      at(record).leave_note(head.record);
      longer = {.record = record, .count = head.count + 1};
    } while (!free_.compare_exchange_weak(head, longer, std::memory_order_release,
                                          std::memory_order_relaxed));
  }

  std::uint32_t take_new() {
    std::uint32_t used = array_.used.load(std::memory_order_relaxed);
    do {
      if (used >= array_.capacity ||
          (used >= backed_.load(std::memory_order_acquire) && !grow(used)))
        return 0;
    } while (!array_.used.compare_exchange_weak(used, used + 1, std::memory_order_release,
                                                std::memory_order_relaxed));
    return used + 1;
  }

  /// Gets memory for the place after @p used.
  bool grow(std::uint32_t used) {
    // What failed may go well later, but must not be tried for every single record.
    constexpr std::uint32_t try_again_after = 1024;
    const std::scoped_lock lock(growing_);
    if (used < backed_.load(std::memory_order_relaxed))
      return true;
    if (failed_ && array_.refused.load(std::memory_order_relaxed) % try_again_after != 0)
      return false;

    int result = 0;
    do
      result = ::fallocate(file_, 0, static_cast<off_t>(array_.offset + backed_bytes_),
                           static_cast<off_t>(layout::growth));
    while (result != 0 && errno == EINTR);
    failed_ = (result != 0 && errno != EOPNOTSUPP) || !leaves_room();
    // Memory that was given all the same stays the file's, for the next try.
    if (failed_)
      return false;
    backed_bytes_ += layout::growth;
    backed_.store(static_cast<std::uint32_t>(backed_bytes_ / sizeof(Committed<Body>)),
                  std::memory_order_release);
    return true;
  }

  /// Whether an eighth of the file system is free still: other programs need it too.
  bool leaves_room() const {
    constexpr fsblkcnt_t kept = 8;
    struct statvfs status {};
    return ::fstatvfs(file_, &status) != 0 || status.f_bfree >= status.f_blocks / kept;
  }

  static_assert(std::atomic<Head>::is_always_lock_free);

  Committed<Body> *places_;
  int file_;
  layout::Array &array_;
  std::atomic<Head> free_{Head{}};
  std::atomic<std::uint32_t> backed_{0}; ///< So many places have memory.
  std::mutex growing_;                   ///< Guards what follows.
  std::uint64_t backed_bytes_ = 0;
  bool failed_ = false;
};

} // namespace vfio_shim::observe
