// SPDX-License-Identifier: MIT
#include "disturbances.hpp"

#include "client/fd.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.hpp"
#include "process.hpp"
#include "text.hpp"

namespace chaos {

using namespace std::chrono_literals;
using legacy::Fd;

namespace {

/// A client that was alive when it was chosen.
struct Victim {
  int place;
  pid_t pid;
  Fd process;

  bool send(int signal) const {
    return ::syscall(SYS_pidfd_send_signal, process.number(), signal, nullptr, 0) == 0;
  }
};

/// Some innocent client; it may end at any time.
std::optional<Victim> some_client(const Scene &scene, Random &random) {
  std::vector<int> living;
  for (std::size_t i = 0; i < scene.places.size(); ++i)
    if (!scene.places[i].empty() && scene.board.places[i].client != 0)
      living.push_back(static_cast<int>(i));
  if (living.empty())
    return std::nullopt;
  const int number = random.pick(living);
  const Place &place = scene.board.places.at(static_cast<std::size_t>(number));
  const pid_t pid = place.client;
  const std::uint32_t life = place.lives;
  if (pid == 0)
    return std::nullopt;
  Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  // Its host takes the number back before it can mean another process.
  if (!process.is_open() || place.client != pid || place.lives != life)
    return std::nullopt;
  return Victim{number, pid, std::move(process)};
}

/// Holds a window open.
class Open {
public:
  explicit Open(Window &window) : window_(window) { window_.enter(); }
  Open(const Open &) = delete;
  Open &operator=(const Open &) = delete;
  ~Open() { window_.leave(); }

private:
  Window &window_;
};

Window &window_of(std::array<Window, excuse_count> &windows, Excuse excuse) {
  return windows.at(static_cast<std::size_t>(excuse));
}

class Kills final : public Disturbance {
public:
  std::string_view name() const override { return "kill"; }
  void disturb(const Scene &scene, Random &random) const override {
    const auto victim = some_client(scene, random);
    if (!victim)
      return;
    Place &place = scene.board.places.at(static_cast<std::size_t>(victim->place));
    const std::uint32_t life = place.lives;
    place.to_be_killed = true;
    // If another one lives there now, it was not meant.
    if (place.client == victim->pid && place.lives == life && victim->send(SIGKILL))
      ++scene.board.sums.killed;
  }
};

class Stops final : public Disturbance {
public:
  std::string_view name() const override { return "stop"; }
  void disturb(const Scene &scene, Random &random) const override {
    const auto victim = some_client(scene, random);
    if (!victim)
      return;
    victim->send(SIGSTOP);
    std::this_thread::sleep_for(random.time(0ms, 80ms));
    victim->send(SIGCONT);
  }
};

class Freezes final : public Disturbance {
public:
  std::string_view name() const override { return "freeze"; }
  void disturb(const Scene &scene, Random &random) const override {
    const auto victim = some_client(scene, random);
    if (!victim)
      return;
    const std::string freezer = cgroup_of_place(victim->place) + "/cgroup.freeze";
    write_file(freezer, "1");
    std::this_thread::sleep_for(random.time(0ms, 100ms));
    write_file(freezer, "0");
  }
};

class Signals final : public Disturbance {
public:
  std::string_view name() const override { return "signal"; }
  void disturb(const Scene &scene, Random &random) const override {
    const auto victim = some_client(scene, random);
    // Before it has handlers it would die.
    if (!victim || !scene.board.places.at(static_cast<std::size_t>(victim->place)).ready)
      return;
    for (std::uint64_t i = random.between(1, 30); i > 0; --i) {
      victim->send(SIGUSR1);
      std::this_thread::sleep_for(random.time(0us, 3000us));
    }
  }
  std::chrono::microseconds rest() const override { return 50ms; }
};

/// As a debugger does: one thread, for some time, with or without a look at its system calls.
class Traces final : public Disturbance {
public:
  std::string_view name() const override { return "trace"; }
  void disturb(const Scene &scene, Random &random) const override {
    const auto victim = some_client(scene, random);
    if (!victim)
      return;
    Place &place = scene.board.places.at(static_cast<std::size_t>(victim->place));
    const Open traced{window_of(place.windows, Excuse::traced)};
    const auto duration = random.time(0ms, 120ms);
    const bool system_calls = random.chance(40);
    const std::uint64_t which = random.next();
    // In a process of its own: whatever it could not let go of, the kernel lets go of with it.
    const pid_t tracer = ::fork();
    if (tracer == 0) {
      if (const auto thread = some_thread(victim->pid, which))
        trace(*thread, duration, system_calls);
      ::_exit(0);
    }
    if (tracer > 0)
      wait_for(tracer);
  }

private:
  static std::optional<pid_t> some_thread(pid_t process, std::uint64_t which) {
    std::vector<pid_t> threads;
    std::error_code error;
    for (const auto &task :
         std::filesystem::directory_iterator{text("/proc/%d/task", process), error})
      threads.push_back(
          static_cast<pid_t>(std::strtol(task.path().filename().c_str(), nullptr, 10)));
    if (threads.empty())
      return std::nullopt;
    std::ranges::sort(threads);
    return threads[which % threads.size()];
  }

  static void trace(pid_t thread, std::chrono::microseconds duration, bool system_calls) {
    if (::ptrace(PTRACE_SEIZE, thread, nullptr, system_calls ? PTRACE_O_TRACESYSGOOD : 0) != 0)
      return; // Gone, or borrowed at this moment.
    if (system_calls)
      ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) {
      if (!go_on(thread, system_calls))
        return;
      std::this_thread::sleep_for(200us);
    }
    let_go(thread);
  }

  /// Lets it go on if it has stopped. Whether it still lives.
  static bool go_on(pid_t thread, bool system_calls) {
    int status = 0;
    const pid_t stopped = ::waitpid(thread, &status, __WALL | WNOHANG);
    if (stopped < 0 || (stopped > 0 && !WIFSTOPPED(status)))
      return false;
    if (stopped == 0)
      return true;
    const int event = status >> 16;
    const int signal = WSTOPSIG(status);
    const bool group_stop = event == PTRACE_EVENT_STOP && signal != SIGTRAP;
    if (group_stop)
      ::ptrace(PTRACE_LISTEN, thread, nullptr, nullptr);
    else
      ::ptrace(system_calls ? PTRACE_SYSCALL : PTRACE_CONT, thread, nullptr,
               is_for_the_client(status) ? signal : 0);
    return true;
  }

  static bool is_for_the_client(int status) {
    return status >> 16 == 0 && WSTOPSIG(status) != (SIGTRAP | 0x80);
  }

  static void let_go(pid_t thread) {
    ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    const auto give_up = std::chrono::steady_clock::now() + 2s;
    while (std::chrono::steady_clock::now() < give_up) {
      int status = 0;
      const pid_t stopped = ::waitpid(thread, &status, __WALL | WNOHANG);
      if (stopped < 0 || (stopped > 0 && !WIFSTOPPED(status)))
        return;
      if (stopped > 0) {
        ::ptrace(PTRACE_DETACH, thread, nullptr, is_for_the_client(status) ? WSTOPSIG(status) : 0);
        return;
      }
      std::this_thread::sleep_for(200us);
    }
  }
};

/// Takes a device from its driver, which waits for its client to let go, and gives it back.
class Unbinds final : public Disturbance {
public:
  std::string_view name() const override { return "unbind"; }
  bool may_wait_for_clients() const override { return true; }
  std::chrono::microseconds rest() const override { return 600ms; }
  void disturb(const Scene &scene, Random &random) const override {
    std::vector<std::size_t> possible;
    for (std::size_t i = 0; i < scene.places.size(); ++i)
      if (scene.places[i].size() == 1 && !scene.places[i][0].shares_group())
        possible.push_back(i);
    if (possible.empty())
      return;
    const std::size_t number = random.pick(possible);
    const legacy::PciDevice &device = scene.places[number][0];
    const Open taken{window_of(scene.board.places[number].windows, Excuse::device_taken)};
    const std::string node = scene.options.provider.group_path(device.group);
    const auto before = identity(node);
    write_file("/sys/bus/pci/drivers/vfio-pci/unbind", device.address);
    std::this_thread::sleep_for(random.time(0ms, 100ms));
    if (const int error = write_file("/sys/bus/pci/drivers/vfio-pci/bind", device.address))
      scene.board.places[number].complain(
          text("bind of %s: %s", device.address.c_str(), legacy::errno_name(error).c_str()));
    if (!comes_back(node, before))
      scene.board.places[number].complain(node + " does not come back after unbind and bind");
  }

private:
  /// Which node it is, if it is there: one that was removed and made again is another.
  using Identity = std::optional<std::pair<ino_t, std::int64_t>>;

  static Identity identity(const std::string &node) {
    struct stat status {};
    if (::stat(node.c_str(), &status) != 0)
      return std::nullopt;
    return std::pair{status.st_ino,
                     std::int64_t{status.st_ctim.tv_sec} * 1'000'000'000 + status.st_ctim.tv_nsec};
  }

  /// Waits until there is another node than @p before. The daemon removes and makes it when it
  /// hears of the device, later; it may also find that there is nothing to do. One that it lacks
  /// descriptors for is there for a moment, and is made again.
  static bool comes_back(const std::string &node, const Identity &before) {
    constexpr auto may_stay_after = 10s;
    constexpr auto is_there_to_stay = 500ms;
    constexpr auto patience = 40s;
    const auto begin = std::chrono::steady_clock::now();
    auto changed = begin;
    for (Identity last = before;;) {
      const auto here = std::chrono::steady_clock::now();
      const auto waited = here - begin;
      const Identity now = identity(node);
      if (now != std::exchange(last, now))
        changed = here;
      if (now && here - changed > is_there_to_stay && (now != before || waited > may_stay_after))
        return true;
      if (waited > patience)
        return false;
      std::this_thread::sleep_for(5ms);
    }
  }
};

/// Another one takes over. Clients must see nothing but a pause.
class KillsWorker final : public Disturbance {
public:
  std::string_view name() const override { return "kill-worker"; }
  bool needs_a_daemon() const override { return true; }
  void disturb(const Scene &scene, Random &random) const override {
    if (const pid_t worker = scene.daemon->pid())
      ::kill(worker, SIGKILL);
    std::this_thread::sleep_for(random.time(0ms, 500ms));
  }
  std::chrono::microseconds rest() const override { return 1s; }
};

class MakesDescriptorsFew final : public Disturbance {
public:
  std::string_view name() const override { return "few-descriptors"; }
  bool needs_a_daemon() const override { return true; }
  void disturb(const Scene &scene, Random &random) const override {
    const Open few{window_of(scene.board.windows, Excuse::few_descriptors)};
    const Shortage shortage{*scene.daemon, RLIMIT_NOFILE,
                            lowest_free(*scene.daemon) + random.below(6)};
    std::this_thread::sleep_for(random.time(1ms, 300ms));
  }

private:
  static rlim_t lowest_free(const Daemon &daemon) {
    for (rlim_t number = 0;; ++number)
      if (struct stat status{};
          ::lstat(text("/proc/%d/fd/%lu", daemon.pid(), number).c_str(), &status) != 0)
        return number;
  }
};

class MakesThreadsFew final : public Disturbance {
public:
  std::string_view name() const override { return "few-threads"; }
  bool needs_a_daemon() const override { return true; }
  void disturb(const Scene &scene, Random &random) const override {
    const Open few{window_of(scene.board.windows, Excuse::few_threads)};
    const auto now = std::strtoul(DaemonsCgroup::read("pids.current").c_str(), nullptr, 10);
    DaemonsCgroup::write("pids.max", std::to_string(now + random.below(3)));
    std::this_thread::sleep_for(random.time(1ms, 400ms));
    DaemonsCgroup::write("pids.max", "max");
  }
};

/// No more address space: allocations fail.
class MakesMemoryFew final : public Disturbance {
public:
  std::string_view name() const override { return "little-memory"; }
  bool needs_a_daemon() const override { return true; }
  void disturb(const Scene &scene, Random &random) const override {
    const Open little{window_of(scene.board.windows, Excuse::little_memory)};
    const std::string status = read_file(text("/proc/%d/status", scene.daemon->pid()));
    const rlim_t now = number_after(status, "VmSize:").value_or(0) << 10;
    const Shortage shortage{*scene.daemon, RLIMIT_AS, now + (random.below(16) << 14)};
    std::this_thread::sleep_for(random.time(1ms, 200ms));
  }
};

/// Memory is to be had, but slowly: the kernel has it given back first.
class SqueezesMemory final : public Disturbance {
public:
  std::string_view name() const override { return "squeezed-memory"; }
  bool needs_a_daemon() const override { return true; }
  void disturb(const Scene &, Random &random) const override {
    DaemonsCgroup::write("memory.high", std::to_string(random.below(64) << 12));
    std::this_thread::sleep_for(random.time(1ms, 200ms));
    DaemonsCgroup::write("memory.high", "max");
  }
};

const auto &every_disturbance() {
  static const Kills kills;
  static const Stops stops;
  static const Freezes freezes;
  static const Signals signals;
  static const Traces traces;
  static const Unbinds unbinds;
  static const KillsWorker kills_worker;
  static const MakesDescriptorsFew few_descriptors;
  static const MakesThreadsFew few_threads;
  static const MakesMemoryFew little_memory;
  static const SqueezesMemory squeezed_memory;
  static const std::array<const Disturbance *, 11> all{
      &kills,        &stops,           &freezes,     &signals,       &traces,         &unbinds,
      &kills_worker, &few_descriptors, &few_threads, &little_memory, &squeezed_memory};
  return all;
}

/// Sleeps, but not beyond the round's running time. Whether it is still running.
bool rest(const Board &board, std::chrono::microseconds duration) {
  const auto end = std::chrono::steady_clock::now() + duration;
  while (board.running() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::min<std::chrono::microseconds>(duration, 5ms));
  return board.running();
}

} // namespace

std::vector<std::string_view> disturbance_names() {
  std::vector<std::string_view> names;
  for (const Disturbance *disturbance : every_disturbance())
    names.push_back(disturbance->name());
  return names;
}

std::vector<const Disturbance *> chosen_disturbances(const Selection &selection, bool with_daemon) {
  std::vector<const Disturbance *> chosen;
  for (const Disturbance *disturbance : every_disturbance())
    if (selection.has(disturbance->name()) && (with_daemon || !disturbance->needs_a_daemon()))
      chosen.push_back(disturbance);
  return chosen;
}

pid_t start_disturbance(const Scene &scene, const Disturbance &disturbance, std::uint64_t number) {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const auto pid = static_cast<pid_t>(legacy::Answer::of(::fork()).or_throw("fork"));
  if (pid != 0)
    return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent)
    ::_exit(1);
  try {
    constexpr std::uint64_t disturbances = 1000;
    Random random{scene.options.seed, scene.round, disturbances, number};
    while (rest(scene.board, random.time(5ms, disturbance.rest()))) {
      disturbance.disturb(scene, random);
      ++scene.board.sums.disturbances;
    }
    ::_exit(0);
  } catch (const std::exception &thrown) {
    std::fprintf(stderr, "chaos_tests: %s: %s\n", std::string{disturbance.name()}.c_str(),
                 thrown.what());
  }
  ::_exit(1);
}

} // namespace chaos
