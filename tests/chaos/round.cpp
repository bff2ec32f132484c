// SPDX-License-Identifier: MIT
#include "round.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <thread>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.hpp"
#include "process.hpp"
#include "stacks.hpp"
#include "text.hpp"

namespace chaos {

using namespace std::chrono_literals;
using legacy::PciDevice;

namespace {

/// The daemon lets idle workers go after five seconds.
constexpr auto settling = 25s;

} // namespace

std::vector<std::vector<PciDevice>> share_out_devices(std::size_t most) {
  std::vector<std::vector<PciDevice>> places;
  for (const PciDevice &device : legacy::topology::vfio_devices()) {
    if (!device.is_edu())
      continue;
    const auto same = std::ranges::find_if(
        places, [&](const auto &place) { return place.front().group == device.group; });
    if (same != places.end())
      same->push_back(device);
    else if (places.size() < std::min<std::size_t>(most, most_places))
      places.push_back({device});
  }
  if (places.empty())
    throw std::runtime_error{"there is no edu device bound to vfio-pci: see tools/vm-bind"};
  // A device whose BAR is memory, beside one that can write there.
  for (const PciDevice &device : legacy::topology::vfio_devices())
    if (device.is_ivshmem())
      places.front().push_back(device);
  return places;
}

std::vector<std::string> settle(const Accounts::Source &source, const Accounts &before,
                                std::chrono::seconds patience, Accounts &now) {
  const auto give_up =
      std::chrono::steady_clock::now() + std::min<std::chrono::seconds>(patience, settling);
  for (;;) {
    now = Accounts::take(source);
    const auto excess = now.excess_over(before);
    if (excess.empty() || std::chrono::steady_clock::now() > give_up)
      return excess;
    std::this_thread::sleep_for(200ms);
  }
}

Round::Round(const Ground &ground, std::uint64_t number)
    : ground_(ground),
      number_(number),
      random_{ground.options.seed, number},
      scene_{ground.options, ground.board, number, ground.source.daemon, {}} {
  plan();
}

void Round::plan() {
  const Options &options = ground_.options;
  duration_ = random_.time(1500ms, 4000ms);
  const auto hostiles = chosen_hostiles(options.selection);
  for (std::size_t place = 0; place < ground_.places.size(); ++place) {
    const bool hostile = random_.chance(20) && !hostiles.empty();
    hostiles_.push_back(hostile ? random_.pick(hostiles) : nullptr);
    scene_.places.push_back(hostile ? std::vector<PciDevice>{} : ground_.places[place]);
    settings_.push_back(
        {options, ground_.board, number_, static_cast<int>(place), ground_.places[place]});
  }
  for (const Disturbance *disturbance :
       chosen_disturbances(options.selection, ground_.source.daemon.has_value()))
    // Whoever asks for one by name means it.
    if (!options.selection.only().empty() || random_.chance(40))
      disturbances_.push_back(disturbance);
}

std::string Round::describe() const {
  std::string line = text("round %llu:", static_cast<unsigned long long>(number_));
  for (const Disturbance *disturbance : disturbances_)
    line += " " + std::string{disturbance->name()};
  std::string separator = " beside ";
  for (const Hostile *hostile : hostiles_)
    if (hostile != nullptr) {
      line += separator + std::string{hostile->name()};
      separator = ", ";
    }
  return line;
}

bool Round::run() {
  ground_.board.clear();
  std::printf("%s\n", describe().c_str());
  std::fflush(stdout);
  const auto begin = std::chrono::steady_clock::now();
  start();
  wait_while_running();
  bool well = end();
  for (const auto &place : ground_.board.places)
    well &= !place.has_complaint;
  if (!well)
    print_complaints();
  Accounts now;
  const auto excess = settle(ground_.source, ground_.before,
                             std::chrono::seconds{ground_.options.patience_seconds}, now);
  for (const std::string &line : excess)
    std::printf("  LEFT BEHIND: %s\n", line.c_str());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("  %.1f s, %s; %s\n", took.count(), well && excess.empty() ? "well" : "FAILED",
              now.summary().c_str());
  std::fflush(stdout);
  return well && excess.empty();
}

void Round::start() {
  for (const Setting &setting : settings_)
    hosts_.push_back(start_host(setting, hostiles_.at(static_cast<std::size_t>(setting.place))));
  std::uint64_t number = 0;
  for (const Disturbance *disturbance : disturbances_)
    (disturbance->may_wait_for_clients() ? patient_disturbers_ : disturbers_)
        .push_back(start_disturbance(scene_, *disturbance, ++number));
}

void Round::wait_while_running() const {
  const auto end = std::chrono::steady_clock::now() + duration_;
  const auto complained = [this] {
    return std::ranges::any_of(ground_.board.places,
                               [](const Place &place) { return place.has_complaint.load(); });
  };
  while (std::chrono::steady_clock::now() < end && !complained())
    std::this_thread::sleep_for(20ms);
}

bool Round::end() {
  ground_.board.phase = Phase::calming;
  bool well = end_processes(disturbers_, "a disturbance");
  ground_.board.phase = Phase::ending;
  well &= end_processes(hosts_, "a client");
  well &= end_processes(patient_disturbers_, "a disturbance that waits for clients");
  return well;
}

/// Whether they all end in time, and well. One that does not end makes further rounds impossible.
bool Round::end_processes(std::vector<pid_t> &processes, const char *who) {
  const auto give_up =
      std::chrono::steady_clock::now() + std::chrono::seconds{ground_.options.patience_seconds};
  bool well = true;
  for (const pid_t process : processes) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        give_up - std::chrono::steady_clock::now());
    if (!ends_within(process, std::max(left, 0ms))) {
      print_complaints();
      print_hang(who);
      kill_everybody();
      throw std::runtime_error{text("%s hangs: seed %llu, round %llu", who,
                                    static_cast<unsigned long long>(ground_.options.seed),
                                    static_cast<unsigned long long>(number_))};
    }
    well &= wait_for(process) == 0;
  }
  processes.clear();
  return well;
}

void Round::print_complaints() const {
  for (std::size_t i = 0; i < ground_.places.size(); ++i) {
    const Place &place = ground_.board.places.at(i);
    if (!place.has_complaint)
      continue;
    std::printf("  WRONG: seed %llu, round %llu, place %zu, %s:\n    %s\n",
                static_cast<unsigned long long>(ground_.options.seed),
                static_cast<unsigned long long>(number_), i, place.plan.data(),
                place.complaint.data());
    for (std::size_t desk = 0; desk < place.desks.size(); ++desk)
      if (const Desk &last = place.desks[desk]; last.steps > 0)
        std::printf("    desk %zu, step %llu: %s -> %s\n", desk,
                    static_cast<unsigned long long>(last.steps), last.doing.data(),
                    last.began != 0 ? "(under way)" : last.answered.data());
  }
  std::fflush(stdout);
}

void Round::print_hang(const char *who) const {
  std::printf("  HANG: seed %llu, round %llu: %s does not end\n",
              static_cast<unsigned long long>(ground_.options.seed),
              static_cast<unsigned long long>(number_), who);
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  for (std::size_t i = 0; i < ground_.places.size(); ++i) {
    const Place &place = ground_.board.places.at(i);
    const auto processes = processes_in(cgroup_of_place(static_cast<int>(i)).c_str());
    if (processes.empty())
      continue;
    std::printf("  place %zu, %s\n", i, place.plan.data());
    for (std::size_t desk = 0; desk < place.desks.size(); ++desk)
      if (const Desk &last = place.desks[desk]; last.steps > 0)
        std::printf("    desk %zu, step %llu: %s -> %s\n", desk,
                    static_cast<unsigned long long>(last.steps), last.doing.data(),
                    last.began != 0
                        ? text("(for %.1f s)", static_cast<double>(now - last.began) / 1e9).c_str()
                        : last.answered.data());
    print_stacks(processes);
  }
  if (ground_.source.daemon) {
    std::printf("  the daemon\n");
    print_stacks({ground_.source.daemon->pid()});
  }
}

void Round::kill_everybody() {
  for (const auto *processes : {&disturbers_, &patient_disturbers_, &hosts_})
    for (const pid_t process : *processes)
      ::kill(process, SIGKILL);
  for (const Setting &setting : settings_)
    write_file(cgroup_of_place(setting.place) + "/cgroup.kill", "1");
}

} // namespace chaos
