// SPDX-License-Identifier: MIT
#include "life.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <exception>
#include <functional>

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "behaviours.hpp"
#include "heir.hpp"
#include "process.hpp"
#include "text.hpp"

namespace chaos {

using namespace legacy;
using namespace std::chrono_literals;

namespace {

struct NamedEnd {
  End end;
  std::string_view name;
  unsigned weight;
};

constexpr std::array ends{
    NamedEnd{End::closes_all, "closes-all", 5},
    NamedEnd{End::exits, "exits", 3},
    NamedEnd{End::exits_beside_threads, "exits-beside-threads", 2},
    NamedEnd{End::kills_itself, "kills-itself", 2},
    NamedEnd{End::dumps_core, "dumps-core", 1},
    NamedEnd{End::execs, "execs", 3},
    NamedEnd{End::leader_ends, "leader-ends", 2},
};

std::string_view name_of(End end) {
  return std::ranges::find(ends, end, &NamedEnd::end)->name;
}

End some_end(Random &random, const Selection &selection) {
  std::vector<End> choice{End::closes_all};
  for (const NamedEnd &each : ends)
    if (selection.has(each.name))
      choice.insert(choice.end(), each.weight, each.end);
  return random.pick(choice);
}

bool needs_threads(End end) {
  return end != End::closes_all && end != End::exits;
}

/// What a program that dumps core may leave.
constexpr Bytes largest_core = 1_MiB;
/// For those whom the limit binds: more than one maps.
constexpr Bytes most_locked_memory = 1_GiB;

} // namespace

std::vector<std::string_view> end_names() {
  std::vector<std::string_view> names;
  for (const NamedEnd &end : ends)
    names.push_back(end.name);
  return names;
}

LifePlan::LifePlan(const Setting &setting, std::uint32_t life_)
    : random{setting.options.seed, setting.round, static_cast<std::uint64_t>(setting.place), life_},
      life(life_),
      confinement(&some_confinement(random, setting.options.selection)),
      end(some_end(random, setting.options.selection)),
      threads(static_cast<int>(random.below(4))),
      steps(static_cast<int>(random.between(3, random.chance(30) ? 400 : 60))),
      pause(random.chance(50) ? 0us : random.time(100us, 5000us)) {
  if (needs_threads(end))
    threads = std::max(threads, 1);
  // The first process of a pid namespace is deaf to its own signals.
  if (confinement->in_a_pid_namespace() && (end == End::kills_itself || end == End::dumps_core))
    end = End::exits_beside_threads;
}

std::string LifePlan::describe() const {
  return text("life %u: %.*s, %d threads, %d steps, %.*s", life,
              static_cast<int>(confinement->name().size()), confinement->name().data(), threads,
              steps, static_cast<int>(name_of(end).size()), name_of(end).data());
}

Life::Life(const Setting &setting, const LifePlan &plan)
    : setting_(setting),
      plan_(plan),
      random_(plan.random),
      witness_(setting.board, setting.place, main_desk) {}

Random Life::random_of(std::uint64_t part) const {
  return Random{setting_.options.seed, setting_.round, static_cast<std::uint64_t>(setting_.place),
                plan_.life, part};
}

void Life::live() {
  try {
    set_up();
    take_steps();
    end();
  } catch (const GivesUp &) {
    ::_exit(0);
  } catch (const std::exception &thrown) {
    fail(thrown.what());
  }
}

void Life::fail(const std::string &what) {
  witness_.place().complain(what);
  ::_exit(exit_complained);
}

void Life::set_up() {
  limit(RLIMIT_CORE, largest_core.count);
  limit(RLIMIT_MEMLOCK, most_locked_memory.count);
  handle_signals();
  witness_.place().ready = true;
  open_files();
  // Who opens what is root's, and only then becomes somebody else, is a common kind of program.
  witness_.place().bound = plan_.confinement->bound_by_limits();
  plan_.confinement->confine_this_process();
  join();
  lane_.emplace(witness_, *container_, provider(), 0, random_of(0), Lane::Kinds::all);
  start_threads(Lane::Kinds::without_huge_pages);
}

void Life::open_files() {
  const auto opened = [&](const std::string &what, auto open) {
    if (!witness_.must(CallKind::open, "open " + what, succeeds, [&] { return answer_of(open); })
             .ok())
      throw GivesUp{};
  };
  opened("the container", [&] { container_.emplace(provider()); });
  for (const PciDevice &device : setting_.devices) {
    if (std::ranges::any_of(setting_.devices, [&](const PciDevice &earlier) {
          return &earlier < &device && earlier.group == device.group;
        }))
      continue;
    opened(text("group %d", static_cast<int>(device.group)),
           [&] { groups_.push_back(std::make_unique<Group>(provider(), device.group)); });
  }
}

void Life::join() {
  const auto works = [&](CallKind kind, const std::string &what, auto step) {
    if (!witness_.must(kind, what, succeeds, step).ok())
      throw GivesUp{};
  };
  for (const auto &group : groups_)
    works(CallKind::set_up, "SET_CONTAINER", [&] { return group->set_container(*container_); });
  works(CallKind::set_up, "SET_IOMMU", [&] { return container_->set_iommu(IommuType::Type1v2); });
  std::vector<GroupId> ids;
  for (const PciDevice &device : setting_.devices) {
    if (std::ranges::find(ids, device.group) == ids.end())
      ids.push_back(device.group);
    const auto at = static_cast<std::size_t>(std::ranges::find(ids, device.group) - ids.begin());
    works(CallKind::get_device, "GET_DEVICE_FD " + device.address, [&] {
      return answer_of([&] {
        devices_.push_back(std::make_unique<Device>(groups_.at(at)->device(device.address)));
      });
    });
  }
  witness_.say("set the device up");
  edu_.emplace(*devices_.front());
  works(CallKind::ask, "SET_IRQS for requests",
        [&] { return devices_.front()->signal_interrupts(VFIO_PCI_REQ_IRQ_INDEX, asked_); });
  witness_.place().devices_open = true;
}

void Life::start_threads(Lane::Kinds kinds) {
  threads_may_stop_ = false;
  for (int number = 1; number <= plan_.threads; ++number)
    threads_.emplace_back([this, number, kinds] { map_until_told_otherwise(number, kinds); });
}

void Life::stop_threads() {
  threads_may_stop_ = true;
  for (std::thread &thread : threads_)
    thread.join();
  threads_.clear();
  if (gives_up_)
    throw GivesUp{};
}

void Life::map_until_told_otherwise(int number, Lane::Kinds kinds) {
  try {
    Witness witness{setting_.board, setting_.place, number};
    Random random = random_of(static_cast<std::uint64_t>(number));
    Lane lane{witness, *container_, provider(), number, random, kinds};
    while (!threads_may_stop_) {
      lane.step();
      if (plan_.pause > 0us)
        std::this_thread::sleep_for(random.time(0us, plan_.pause));
    }
    lane.unmap_everything();
  } catch (const GivesUp &) {
    gives_up_ = true;
  } catch (const std::exception &thrown) {
    fail(text("thread %d: %s", number, thrown.what()));
  }
}

void Life::take_steps() {
  const auto deeds = chosen_behaviours(setting_.options.selection);
  for (int step = 0; step < plan_.steps && board().running(); ++step) {
    if (gives_up_ || is_asked_for_its_device())
      throw GivesUp{};
    if (random_.chance(60))
      lane_->step();
    else
      random_.pick(deeds)->step(*this);
    if (plan_.pause > 0us)
      std::this_thread::sleep_for(random_.time(0us, plan_.pause));
  }
}

bool Life::is_asked_for_its_device() const {
  return asked_.wait(0ms) > 0;
}

void Life::end() {
  if (needs_threads(plan_.end)) {
    end_abruptly();
  }
  stop_threads();
  if (plan_.end == End::exits)
    ::_exit(0);
  lane_->unmap_everything();
  check_nothing_is_pinned();
  close_in_any_order();
  ::_exit(0);
}

/// Its own account: whoever has unmapped everything has nothing pinned and nothing locked.
void Life::check_nothing_is_pinned() {
  const std::string status = read_file("/proc/self/status");
  for (const char *account : {"VmPin", "VmLck"})
    witness_.require(number_after(status, std::string{account} + ":") == 0,
                     text("%s is %llu kB after everything was unmapped", account,
                          static_cast<unsigned long long>(
                              number_after(status, std::string{account} + ":").value_or(0))));
}

void Life::close_in_any_order() {
  witness_.say("close in any order");
  std::vector<std::function<void()>> closings{[this] { container_->close(); },
                                              [this] { edu_.reset(); }};
  for (auto &group : groups_)
    closings.emplace_back([&group] { group->close(); });
  for (auto &device : devices_)
    closings.emplace_back([&device] { device->close(); });
  while (!closings.empty()) {
    const auto at = static_cast<std::ptrdiff_t>(random_.below(closings.size()));
    closings.at(static_cast<std::size_t>(at))();
    closings.erase(closings.begin() + at);
  }
}

void Life::end_abruptly() {
  if (plan_.end == End::leader_ends)
    leave_to_another_thread();
  // The more threads are in the middle of a map, the better. Some still have a lane of other kinds.
  std::this_thread::sleep_for(random_.time(0us, 25'000us));
  Place &place = witness_.place();
  switch (plan_.end) {
  case End::kills_itself:
    place.intent = Intent::killed_by_itself;
    witness_.say("SIGKILL to itself");
    ::kill(::getpid(), SIGKILL);
    break;
  case End::dumps_core:
    place.intent = Intent::dumps_core;
    witness_.say("dump core");
    ::signal(SIGABRT, SIG_DFL);
    ::syscall(SYS_tgkill, ::getpid(), static_cast<pid_t>(::syscall(SYS_gettid)), SIGABRT);
    break;
  case End::execs:
    exec_heir();
  default:
    witness_.say("exit_group");
    ::_exit(0);
  }
  for (;;)
    ::pause();
}

void Life::exec_heir() {
  for (const auto *fd : {&container_->fd(), &group().fd(), &devices_.front()->fd()})
    ::fcntl(fd->number(), F_SETFD, 0);
  witness_.say("exec");
  become_heir(setting_.place, container_->fd().number());
}

void Life::leave_to_another_thread() {
  std::thread{[this] {
    try {
      std::this_thread::sleep_for(random_.time(0us, 20'000us));
      Random random = random_of(99);
      for (int step = 0; step < 5; ++step) {
        lane_->step();
        witness_.must(CallKind::get_device, "GET_DEVICE_FD when the leader has ended", succeeds,
                      [&] { return group().try_device(setting_.devices.front().address); });
        std::this_thread::sleep_for(random.time(0us, 10'000us));
      }
      lane_->unmap_everything();
      stop_threads();
      witness_.say("exit after its leader");
      ::_exit(0);
    } catch (const GivesUp &) {
      ::_exit(0);
    } catch (const std::exception &thrown) {
      fail(std::string{"after the leader has ended: "} + thrown.what());
    }
  }}.detach();
  // This thread only: its stack, and what lies there, stays.
  for (;;)
    ::syscall(SYS_exit, 0);
}

} // namespace chaos
