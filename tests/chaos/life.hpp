// SPDX-License-Identifier: MIT
/// @file
/// One innocent client, from its first call to its end.
#pragma once

#include "client/container.h"
#include "client/device.h"
#include "client/edu.h"
#include "client/group.h"
#include "client/topology.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "confinement.hpp"
#include "lane.hpp"
#include "options.hpp"
#include "random.hpp"
#include "witness.hpp"

namespace chaos {

/// What clients at one place have in common.
struct Setting {
  const Options &options;
  Board &board;
  std::uint64_t round;
  int place;
  std::vector<legacy::PciDevice> devices;
};

/// How a client ends.
enum class End : int {
  closes_all,           ///< In any order.
  exits,                ///< Without closing anything.
  exits_beside_threads, ///< exit_group while its threads map.
  kills_itself,         ///< SIGKILL while its threads map.
  dumps_core,           ///< While its threads map.
  execs,                ///< While its threads map, and goes on with its container.
  leader_ends,          ///< The main thread ends, the others go on for some time.
};
std::vector<std::string_view> end_names();

/// What one client is to be. Follows from (seed, round, place, number of the life) alone.
struct LifePlan {
  LifePlan(const Setting &setting, std::uint32_t life);

  Random random;
  std::uint32_t life;
  const Confinement *confinement;
  End end;
  int threads;
  int steps;
  std::chrono::microseconds pause; ///< Between steps, at most.

  std::string describe() const;
};

class Life {
public:
  Life(const Setting &setting, const LifePlan &plan);

  /// Lives it. To be called in a process of its own.
  [[noreturn]] void live();

  Witness &witness() { return witness_; }
  Random &random() { return random_; }
  Board &board() { return setting_.board; }
  const Setting &setting() const { return setting_; }
  const legacy::Provider &provider() const { return setting_.options.provider; }
  const legacy::Container &container() const { return *container_; }
  const legacy::Group &group() const { return *groups_.front(); }
  const std::vector<std::unique_ptr<legacy::Group>> &groups() const { return groups_; }
  const std::vector<std::unique_ptr<legacy::Device>> &devices() const { return devices_; }
  const legacy::Edu &edu() const { return *edu_; }
  Lane &lane() { return *lane_; }
  bool has_threads() const { return plan_.threads > 0; }
  /// A seed for a part of this life.
  Random random_of(std::uint64_t part) const;
  /// Says what is wrong and ends the process.
  [[noreturn]] void fail(const std::string &what);

private:
  void set_up();
  void open_files();
  void join();
  void start_threads(Lane::Kinds kinds);
  void stop_threads();
  void map_until_told_otherwise(int number, Lane::Kinds kinds);
  void take_steps();
  bool is_asked_for_its_device() const;
  [[noreturn]] void end();
  void close_in_any_order();
  [[noreturn]] void end_abruptly();
  [[noreturn]] void exec_heir();
  [[noreturn]] void leave_to_another_thread();
  void check_nothing_is_pinned();

  const Setting &setting_;
  const LifePlan &plan_;
  Random random_;
  Witness witness_;
  std::optional<legacy::Container> container_;
  std::vector<std::unique_ptr<legacy::Group>> groups_;
  std::vector<std::unique_ptr<legacy::Device>> devices_;
  std::optional<legacy::Edu> edu_;
  legacy::InterruptCounter asked_;
  std::optional<Lane> lane_;
  std::atomic<bool> threads_may_stop_ = false;
  std::atomic<bool> gives_up_ = false;
  std::vector<std::thread> threads_;
};

/// How a client's process ends when something was wrong; the board says what.
inline constexpr int exit_complained = 3;

} // namespace chaos
