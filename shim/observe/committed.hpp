// SPDX-License-Identifier: MIT
/// @file
/// A record that others read while it is being written.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <type_traits>

namespace vfio_shim::observe {

/// A slot for one record in shared memory, with its commit word.
///
/// One thread at a time may write (the caller sees to it); anyone may read at any time, also a
/// process with a read-only mapping, and gets the record whole or not at all. All zero is a free
/// slot, so fresh shared memory needs no set-up.
///
/// The commit word counts commits in its upper bits and so never repeats; below that come two bits:
/// live (the slot holds a record) and writing.
template <typename Body>
class Committed {
  static_assert(std::is_trivially_copyable_v<Body>);
  static_assert(std::has_unique_object_representations_v<Body>,
                "no padding: it is copied by words");
  static_assert(sizeof(Body) % sizeof(std::uint64_t) == 0);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "shared between processes");

public:
  /// What a reader finds.
  enum class State : std::uint8_t {
    free,
    whole,
    torn ///< Not committed in spite of waiting: its writer died in the middle.
  };

  /// Writer: makes @p body the content; the slot is live from now on.
  void publish(const Body &body) {
    const auto before = commit_.load(std::memory_order_relaxed);
    commit_.store(before | writing, std::memory_order_relaxed);
    store(body);
    commit_.store(next_count(before) | live, std::memory_order_release);
  }

  /// Writer: changes the content of a live slot. @p change takes Body &.
  template <typename Change>
  void amend(Change change) {
    Body body = held();
    change(body);
    publish(body);
  }

  /// A new writer, where the one before may have died in the middle: a live slot keeps what words
  /// it has, one that was not live yet is free. @return Whether it is live.
  bool settle() {
    const auto before = commit_.load(std::memory_order_relaxed);
    const bool is_live = (before & live) != 0;
    if ((before & writing) != 0)
      commit_.store(next_count(before) | (is_live ? live : 0), std::memory_order_release);
    return is_live;
  }

  /// Writer: frees the slot.
  void retract() {
    commit_.store(next_count(commit_.load(std::memory_order_relaxed)), std::memory_order_release);
  }

  /// Writer: the content, as it was last published.
  Body held() const { return load(); }

  /// Reader: copies the content to @p body if there is one.
  State look(Body &body) const {
    constexpr int eager_tries = 100;
    constexpr int patient_tries = 50;
    for (int attempt = 0; attempt < eager_tries + patient_tries; ++attempt) {
      // A writer is done within nanoseconds, unless it was put to sleep half-way.
      if (attempt >= eager_tries)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const auto before = commit_.load(std::memory_order_acquire);
      if (before % count_step == 0)
        return State::free;
      if ((before & writing) != 0)
        continue;
      body = load();
      if (commit_.load(std::memory_order_relaxed) == before)
        return State::whole;
    }
    return State::torn;
  }

  /// Writer: a note in a free slot, where a live one has its content.
  void leave_note(std::uint64_t note) { words_[0].store(note, std::memory_order_release); }
  /// The note of a free slot; anything at all once the slot is live.
  std::uint64_t note() const { return words_[0].load(std::memory_order_acquire); }

private:
  static constexpr std::uint64_t writing = 1;
  static constexpr std::uint64_t live = 2;
  static constexpr std::uint64_t count_step = 4;

  static constexpr std::uint64_t next_count(std::uint64_t commit) {
    return (commit / count_step + 1) * count_step;
  }

  using Words = std::array<std::uint64_t, sizeof(Body) / sizeof(std::uint64_t)>;

  // A word carries release and acquire instead of a fence around all of them: a reader that sees
  // any word of a commit then sees its commit word too. That costs nothing on x86, and unlike a
  // fence the thread sanitizer understands it.
  void store(const Body &body) {
    Words words{};
    std::memcpy(words.data(), &body, sizeof body);
    for (std::size_t index = 0; index < words.size(); ++index)
      words_[index].store(words[index], std::memory_order_release);
  }

  Body load() const {
    Words words{};
    for (std::size_t index = 0; index < words.size(); ++index)
      words[index] = words_[index].load(std::memory_order_acquire);
    Body body{};
    std::memcpy(&body, words.data(), sizeof body);
    return body;
  }

  std::atomic<std::uint64_t> commit_;
  std::array<std::atomic<std::uint64_t>, std::tuple_size_v<Words>> words_;
};

} // namespace vfio_shim::observe
