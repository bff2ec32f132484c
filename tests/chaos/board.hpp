// SPDX-License-Identifier: MIT
/// @file
/// What all processes of a round tell one another, in shared memory: it survives whoever dies.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include <sys/types.h>

#include "excuses.hpp"

namespace chaos {

inline constexpr int most_places = 24;
/// One for the main thread, the others for its threads and for its forked child.
inline constexpr int desks_per_place = 8;
inline constexpr int main_desk = 0;
inline constexpr int childs_desk = desks_per_place - 1;

/// How far a round is.
enum class Phase : int {
  running,
  calming, ///< Disturbances end.
  ending,  ///< Clients end.
};

/// The times during which something is the case. May be open for several reasons at once.
class Window {
public:
  using Glance = std::uint32_t;

  void enter() {
    ++open_;
    ++entered_;
  }
  void leave() { --open_; }
  Glance glance() const { return open_ > 0 ? ~Glance{0} : entered_.load(); }
  bool is_open() const { return open_ > 0; }
  /// Whether it was open at the time of @p before, or has been since.
  bool was_open_since(Glance before) const { return is_open() || entered_ != before; }

private:
  std::atomic<std::int32_t> open_;
  std::atomic<std::uint32_t> entered_;
};

/// What one thread is about to do, and what answer it got.
struct Desk {
  std::atomic<std::uint64_t> steps;
  std::atomic<std::int64_t>
      began; ///< When the call under way was made (CLOCK_MONOTONIC, ns); or 0.
  std::array<char, 120> doing;
  std::array<char, 80> answered;

  void begin(std::string_view what);
  void end(std::string_view answer);
};

/// How a client means to end.
enum class Intent : int { exits_with_0, killed_by_itself, dumps_core };

/// The place of one client after another on the same devices.
struct Place {
  std::atomic<std::uint32_t> lives; ///< How many clients were started here.
  std::atomic<pid_t> client;        ///< The living one; 0 if there is none.
  std::atomic<bool> ready;          ///< Its signal handlers are there.
  std::atomic<bool> devices_open;   ///< It has its devices.
  std::atomic<bool> bound; ///< RLIMIT_MEMLOCK binds it, so that all it maps is accounted to it.
  std::atomic<bool> to_be_killed; ///< Somebody is about to kill it, or has.
  std::atomic<Intent> intent;
  std::array<char, 120> plan; ///< What kind of client it is.
  std::array<Window, excuse_count> windows;
  std::array<Desk, desks_per_place> desks;
  std::atomic<bool> has_complaint;
  std::array<char, 400> complaint; ///< The first thing that was not as it must be.

  void complain(std::string_view what);
};

/// Sums for the report.
struct Sums {
  std::atomic<std::uint64_t> lives, calls, refused, excused, copies, killed, disturbances;
};

struct Board {
  std::atomic<Phase> phase;
  std::array<Window, excuse_count> windows; ///< What concerns all clients.
  std::array<Place, most_places> places;
  Sums sums;

  /// Makes one that a program which is executed can map again by its descriptor.
  static Board &make();
  /// Maps the one that the program before execve(2) had.
  static Board &inherit();

  bool running() const { return phase == Phase::running; }
  /// Forgets the last round. The sums stay.
  void clear();
};

} // namespace chaos
