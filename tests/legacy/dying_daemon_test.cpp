// SPDX-License-Identifier: MIT
// The daemon is killed while it has borrowed a thread, at each system call that it makes then. Its
// client gets an answer, and is otherwise as it was: registers, signals, descriptors, threads. If
// only the worker dies, the answer is that of the one that takes over.

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "daemon.h"
#include "doomed_daemon.h"
#include "machine.h"
#include "own_state.h"
#include "patience.h"
#include "suite.h"
#include "thread_state.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// Each step takes a daemon of its own, so usually one in several is tried.
constexpr const char *every_step = "VFIO_SHIM_TEST_EVERY_STEP";

/// What a program has open, and as what.
std::map<int, std::string> descriptors() {
  std::map<int, std::string> open;
  for (const auto &entry : fs::directory_iterator{"/proc/self/fd"}) {
    std::error_code gone; // The directory's own.
    const std::string file = fs::read_symlink(entry.path(), gone);
    const bool is_the_directory = file.ends_with("/fd");
    if (!gone && !is_the_directory) // A dead daemon's nodes are "deleted".
      open.emplace(std::stoi(entry.path().filename()), file.substr(0, file.find(' ')));
  }
  return open;
}

void block_some_signals() {
  sigset_t some;
  sigemptyset(&some);
  sigaddset(&some, SIGUSR2);
  sigaddset(&some, SIGRTMIN + 5);
  ASSERT_EQ(::sigprocmask(SIG_BLOCK, &some, nullptr), 0);
}

/// A client's call for which it is borrowed.
struct Borrowing {
  unsigned long request;
  /// Sets the client up, and says what the call is made on, and with what.
  std::function<std::pair<int, const void *>(const PciDevice &)> prepare;
};

using Dies = DoomedDaemon::Dies;

class DyingDaemonSuite : public testing::TestWithParam<Dies> {
protected:
  /// Kills a daemon at one step after the other of the same call.
  /// @param first The first step, @param stride and how far they are apart.
  void die_in(const Borrowing &borrowing, int first, int stride) {
    if (std::getenv(every_step) != nullptr)
      first = stride = 1;
    int deaths = 0;
    for (int step = first; die_at(step, borrowing); step += stride) {
      ++deaths;
      if (HasFailure())
        FAIL() << "killed at step " << step;
    }
    EXPECT_GE(deaths, 5) << "there is nothing to die in";
    RecordProperty("deaths", deaths);
  }

private:
  /// @return Whether the daemon came to that step.
  bool die_at(int step, const Borrowing &borrowing) {
    const PciDevice device = topology::lone_edus(2)[1];
    DoomedDaemon daemon{device.group};
    const Signpost ready, go;
    Child client{[&] { be_client(device, borrowing, ready, go); }};
    EXPECT_TRUE(ready.await());
    daemon.watch();
    go.announce();
    const bool died = daemon.dies_at(step, GetParam(), [&] { return client.ends_within(0ms); });
    EXPECT_TRUE(client.wait());
    return died;
  }

  /// One is a device's, and one may be a witness.
  static void expect_none_left_over(const std::map<int, std::string> &before) {
    EXPECT_LE(descriptors().size(), before.size() + 2);
    for (const auto &[number, file] : descriptors())
      EXPECT_TRUE(before.contains(number) || file.starts_with("anon_inode:") ||
                  file.starts_with("/dev/vfio/devices/"))
          << number << " is " << file;
  }

  void be_client(const PciDevice &device, const Borrowing &borrowing, const Signpost &ready,
                 const Signpost &go) {
    block_some_signals();
    const auto [file, argument] = borrowing.prepare(device);
    ready.announce();
    ASSERT_TRUE(go.await());
    const auto before = descriptors();
    const std::uint64_t mask = blocked_signals();
    ThreadState state = ThreadState::distinctive(), after;
    const long answer = ioctl_with(state, after, file, borrowing.request, argument);
    EXPECT_EQ(blocked_signals(), mask);
    EXPECT_EQ(after, state) << "registers, the red zone, or a vector register";
    EXPECT_TRUE(within(1s, [] { return threads_of(::getpid()) == 1; }))
        << "a thread of the daemon's is left";
    if (GetParam() == Dies::TheWorker) {
      EXPECT_GE(answer, 0) << "another worker takes over";
      expect_none_left_over(before);
    } else if (answer < 0) {
      EXPECT_TRUE(answer == -ENOTCONN || answer == -ECONNABORTED || answer == -ENODEV) << answer;
      EXPECT_EQ(descriptors(), before);
    }
  }
};

/// What a client keeps until it ends.
struct Kept {
  explicit Kept(const PciDevice &device)
      : container{DoomedDaemon::provider()}, group{DoomedDaemon::provider(), device.group} {
    group.set_container(container).or_throw("VFIO_GROUP_SET_CONTAINER");
    container.set_iommu(IommuType::Type1v2).or_throw("VFIO_SET_IOMMU");
  }

  Container container;
  Group group;
  std::optional<Machine> machine;
  std::unique_ptr<Memory> memory;
  vfio_iommu_type1_dma_map map{};
  std::string name;
};

/// The calling process's; it ends with _exit().
Kept &keep(const PciDevice &device) {
  static auto *kept = new Kept{device};
  return *kept;
}

std::pair<int, const void *> about_to_map(Kept &kept, Bytes size) {
  kept.memory = std::make_unique<Memory>(size);
  ::madvise(kept.memory->data(), size.count, MADV_NOHUGEPAGE);
  kept.memory->fill({0}, size, 1);
  kept.map = map_request(some_iova, kept.memory->data(), size);
  return {kept.container.fd().number(), &kept.map};
}

class DyingDaemon : public DyingDaemonSuite {};

INSTANTIATE_TEST_SUITE_P(, DyingDaemon, testing::Values(Dies::Everything, Dies::TheWorker),
                         [](const auto &parameter) {
                           return parameter.param == Dies::TheWorker ? "worker" : "everything";
                         });

TEST_P(DyingDaemon, WhileItHandsADeviceOver) {
  die_in({.request = VFIO_GROUP_GET_DEVICE_FD,
          .prepare =
              [](const PciDevice &device) {
                Kept &kept = keep(device);
                kept.name = device.address;
                return std::pair<int, const void *>{kept.group.fd().number(), kept.name.c_str()};
              }},
         3, 101);
}

TEST_P(DyingDaemon, WhileItTellsKvmOfADevice) {
  die_in({.request = VFIO_GROUP_GET_DEVICE_FD,
          .prepare =
              [](const PciDevice &device) {
                Kept &kept = keep(device);
                kept.machine.emplace();
                kept.name = device.address;
                return std::pair<int, const void *>{kept.group.fd().number(), kept.name.c_str()};
              }},
         307, 97);
}

TEST_P(DyingDaemon, WhileItTakesADeviceFromKvm) {
  die_in({.request = VFIO_GROUP_UNSET_CONTAINER,
          .prepare =
              [](const PciDevice &device) {
                Kept &kept = keep(device);
                kept.machine.emplace();
                kept.group.device(device.address).close();
                return std::pair<int, const void *>{kept.group.fd().number(), nullptr};
              }},
         9, 61);
}

TEST_P(DyingDaemon, InAClientsFirstMapOfPrivateMemory) {
  die_in({.request = VFIO_IOMMU_MAP_DMA,
          .prepare = [](const PciDevice &device) { return about_to_map(keep(device), page); }},
         5, 97);
}

TEST_P(DyingDaemon, InALaterMapThatTheClientPinsItself) {
  die_in({.request = VFIO_IOMMU_MAP_DMA,
          .prepare =
              [](const PciDevice &device) {
                Kept &kept = keep(device);
                const Memory first{page};
                kept.container.map(some_iova + 64_MiB, first).or_throw("VFIO_IOMMU_MAP_DMA");
                return about_to_map(kept, page * 2048);
              }},
         2, 37);
}

} // namespace
