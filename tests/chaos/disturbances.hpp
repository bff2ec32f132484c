// SPDX-License-Identifier: MIT
/// @file
/// What comes from outside, over clients and over the daemon.
#pragma once

#include "client/topology.h"

#include <optional>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "board.hpp"
#include "daemon.hpp"
#include "options.hpp"
#include "random.hpp"

namespace chaos {

/// What a disturbance finds.
struct Scene {
  const Options &options;
  Board &board;
  std::uint64_t round;
  std::optional<Daemon> daemon;
  /// The devices of each place with innocent clients; none for other places.
  std::vector<std::vector<legacy::PciDevice>> places;
};

class Disturbance {
public:
  virtual ~Disturbance() = default;
  virtual std::string_view name() const = 0;
  /// Whether it is one of the daemon.
  virtual bool needs_a_daemon() const { return false; }
  /// Whether it may last until clients have ended.
  virtual bool may_wait_for_clients() const { return false; }
  /// Does it once, and undoes it.
  virtual void disturb(const Scene &scene, Random &random) const = 0;
  /// How long it leaves everybody alone in between, at most.
  virtual std::chrono::microseconds rest() const { return std::chrono::milliseconds{250}; }
};

std::vector<std::string_view> disturbance_names();
/// Those that are chosen and possible here.
std::vector<const Disturbance *> chosen_disturbances(const Selection &selection, bool with_daemon);

/// Starts a process that disturbs again and again while the round is running.
pid_t start_disturbance(const Scene &scene, const Disturbance &disturbance, std::uint64_t number);

} // namespace chaos
