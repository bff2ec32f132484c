// SPDX-License-Identifier: MIT
/// @file
/// A set of clients on the machine's devices, what disturbs them, and what must be so afterwards.
#pragma once

#include "client/topology.h"

#include <vector>

#include "accounts.hpp"
#include "board.hpp"
#include "disturbances.hpp"
#include "options.hpp"

namespace chaos {

/// What all rounds have in common.
struct Ground {
  const Options &options;
  Board &board;
  /// The devices of each place.
  std::vector<std::vector<legacy::PciDevice>> places;
  Accounts::Source source;
  Accounts before;
};

/// Shares the machine's devices out: a place for each group with an edu, at most @p most. What has
/// memory to write to goes to the first.
std::vector<std::vector<legacy::PciDevice>> share_out_devices(std::size_t most);

/// Waits until the accounts are as @p before. Returns what still is not.
std::vector<std::string> settle(const Accounts::Source &source, const Accounts &before,
                                std::chrono::seconds patience, Accounts &now);

class Round {
public:
  Round(const Ground &ground, std::uint64_t number);

  /// Whether all was well. Prints a line, or what was wrong. Throws if the next one is impossible.
  bool run();

private:
  void plan();
  void start();
  void wait_while_running() const;
  bool end();
  bool end_processes(std::vector<pid_t> &processes, const char *who);
  void print_complaints() const;
  void print_hang(const char *who) const;
  void kill_everybody();
  std::string describe() const;

  const Ground &ground_;
  std::uint64_t number_;
  Random random_;
  std::vector<const class Hostile *> hostiles_; ///< By place; nullptr for innocent clients.
  std::vector<const Disturbance *> disturbances_;
  std::chrono::microseconds duration_;
  Scene scene_;
  std::vector<struct Setting> settings_;
  std::vector<pid_t> hosts_, disturbers_, patient_disturbers_;
};

} // namespace chaos
