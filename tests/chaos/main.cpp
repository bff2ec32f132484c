// SPDX-License-Identifier: MIT
// A dozen clients do random things, and are disturbed: see README.md.

#include "client/client.h"
#include "client/memory.h"

#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

#include "accounts.hpp"
#include "board.hpp"
#include "heir.hpp"
#include "host.hpp"
#include "options.hpp"
#include "round.hpp"
#include "text.hpp"

namespace {

using namespace chaos;

constexpr const char *core_pattern = "/proc/sys/kernel/core_pattern";
constexpr const char *core_file = "/dev/shm/chaos.core";

/// Cores go where they are few and small, for its lifetime.
class Cores {
public:
  Cores() : before_(read_file(core_pattern)) { write_file(core_pattern, core_file); }
  Cores(const Cores &) = delete;
  Cores &operator=(const Cores &) = delete;
  ~Cores() {
    write_file(core_pattern, before_);
    ::unlink(core_file);
  }

private:
  std::string before_;
};

/// A cgroup for each place.
class Cgroups {
public:
  explicit Cgroups(std::size_t count) : count_(static_cast<int>(count)) {
    for (int place = 0; place < count_; ++place)
      if (::mkdir(cgroup_of_place(place).c_str(), 0755) != 0 && errno != EEXIST)
        legacy::throw_errno("mkdir " + cgroup_of_place(place));
  }
  Cgroups(const Cgroups &) = delete;
  Cgroups &operator=(const Cgroups &) = delete;
  ~Cgroups() {
    for (int place = 0; place < count_; ++place)
      ::rmdir(cgroup_of_place(place).c_str());
  }

private:
  int count_;
};

/// Goes on as a copy of this program in memory.
///
/// The test machine's files are the host's, over 9p, whose server now and then loses a request of
/// somebody who is killed while he waits for it; then others wait for ever. Thousands are killed
/// here, many of them in an exec.
void move_into_memory(char **arguments) {
  namespace fs = std::filesystem;
  const fs::path copy = "/run/chaos_tests";
  const fs::path program = fs::read_symlink("/proc/self/exe");
  if (program == copy)
    return;
  fs::copy_file(program, copy, fs::copy_options::overwrite_existing);
  ::execv(copy.c_str(), arguments);
  legacy::throw_errno("exec of " + copy.string());
}

/// What everybody does for the first time, so that it is there before anything is counted.
void warm_up(const Ground &ground) {
  for (const auto &devices : ground.places) {
    const legacy::Client client{ground.options.provider, devices.front()};
    const legacy::Memory memory{legacy::page};
    client.container.map({0x100000}, memory).or_throw("map");
    client.container.unmap_all().or_throw("unmap");
  }
}

/// The accounts when they have stayed the same for a while.
Accounts take_settled(const Accounts::Source &source) {
  constexpr int tries = 30;
  Accounts earlier = Accounts::take(source);
  for (int i = 0; i < tries; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{300});
    const Accounts now = Accounts::take(source);
    const bool settled = now.excess_over(earlier).empty() && earlier.excess_over(now).empty();
    earlier = now;
    if (settled)
      break;
  }
  return earlier;
}

void print_sums(const Sums &sums, std::uint64_t rounds, std::uint64_t failed) {
  const auto number = [](const std::atomic<std::uint64_t> &sum) {
    return static_cast<unsigned long long>(sum);
  };
  std::printf(
      "%llu rounds, %llu failed: %llu clients (%llu killed), %llu calls (%llu refused, %llu of "
      "them excused), %llu copies by DMA, %llu disturbances\n",
      static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(failed),
      number(sums.lives), number(sums.killed), number(sums.calls), number(sums.refused),
      number(sums.excused), number(sums.copies), number(sums.disturbances));
}

/// How many rounds failed.
std::uint64_t run_rounds(const Ground &ground) {
  const Options &options = ground.options;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{options.seconds};
  const auto is_over = [&](std::uint64_t done) {
    return options.rounds ? done >= *options.rounds : std::chrono::steady_clock::now() > end;
  };
  std::uint64_t done = 0, failed = 0;
  try {
    for (; !is_over(done) && failed < options.failures; ++done)
      failed += !Round{ground, options.first_round + done}.run();
  } catch (const std::exception &) {
    print_sums(ground.board.sums, done + 1, failed + 1);
    throw;
  }
  print_sums(ground.board.sums, done, failed);
  return failed;
}

bool run(const Options &options) {
  Board &board = Board::make();
  const auto devices = legacy::topology::vfio_devices();
  std::optional<Daemon> daemon;
  std::unique_ptr<DaemonsCgroup> daemons_cgroup;
  if (options.provider.is_shim()) {
    daemon = Daemon::find(options.daemon);
    daemons_cgroup = std::make_unique<DaemonsCgroup>(*daemon);
  }
  Ground ground{
      options,
      board,
      share_out_devices(options.clients),
      {options.provider, devices, daemon, static_cast<long>(options.memory_tolerance_mib << 10)},
      {}};
  const Cgroups cgroups{ground.places.size()};
  const Cores cores;
  std::printf("seed %llu, %zu places, on %s\n", static_cast<unsigned long long>(options.seed),
              ground.places.size(), options.provider.name.c_str());
  warm_up(ground);
  ground.before = take_settled(ground.source);
  std::printf("before: %s\n", ground.before.summary().c_str());
  return run_rounds(ground) == 0;
}

} // namespace

int main(int argc, char **argv) {
  try {
    be_an_heir_if_told(argc, argv);
    move_into_memory(argv);
    return run(Options::parse(argc, argv)) ? 0 : 1;
  } catch (const std::exception &cause) {
    std::fprintf(stderr, "chaos_tests: %s\n", cause.what());
    return 1;
  }
}
