// SPDX-License-Identifier: MIT
// Signals while calls are under way: none is lost, none makes a call fail, and the calling thread
// comes back as it left.

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include <sys/time.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"
#include "thread_state.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

constexpr int signal_count = 1000;

// What signal handlers touch has to be at file level.
struct {
  std::atomic<int> alarms;
  std::atomic<int> received;
  std::atomic<int> out_of_order;
} seen;

void count_alarm(int) {
  ++seen.alarms;
}

void count_numbered(int, siginfo_t *info, void *) {
  if (info->si_value.sival_int != seen.received)
    ++seen.out_of_order;
  ++seen.received;
}

/// Handlers without SA_RESTART, so that an interrupted call would show.
void install_handlers() {
  struct sigaction action {};
  action.sa_handler = count_alarm;
  ASSERT_EQ(::sigaction(SIGALRM, &action, nullptr), 0);
  action = {};
  action.sa_sigaction = count_numbered;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGRTMIN, &action, nullptr), 0);
}

void start_alarm_storm(std::chrono::microseconds period) {
  const timeval interval{0, static_cast<suseconds_t>(period.count())};
  const itimerval timer{interval, interval};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &timer, nullptr), 0);
}

void stop_alarm_storm() {
  const itimerval none{};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &none, nullptr), 0);
}

/// Sends `pid` numbered real-time signals, a few at a time.
void send_numbered_signals(pid_t pid) {
  for (int number = 0; number < signal_count; ++number) {
    const sigval value{.sival_int = number};
    ASSERT_EQ(::sigqueue(pid, SIGRTMIN, value), 0);
    if (number % 4 == 0)
      std::this_thread::sleep_for(2ms);
  }
}

class SignalsSuite : public AttachedSuite {
protected:
  const Memory private_{page * 4};
  const Memory shared_ = Memory::allocate(MemoryKind::MemfdShared, page * 4);

  /// One round of calls, each of which must answer as ever.
  void map_and_unmap() {
    EXPECT_EQ(container().map(some_iova, private_), succeeds);
    EXPECT_EQ(container().map(some_iova + 1_MiB, shared_), succeeds);
    EXPECT_EQ(container().map(some_iova, private_), fails(EEXIST));
    EXPECT_EQ(container().unmap(some_iova, private_.size()), unmaps(private_.size()));
    EXPECT_EQ(container().unmap_all(), unmaps(shared_.size()));
    EXPECT_EQ(container().api_version(), answers(0));
  }
};

LEGACY_SUITE(Signals, SignalsSuite);

TEST_P(Signals, AlarmsDisturbNoCall) {
  run_in_child([&] {
    install_handlers();
    start_alarm_storm(1ms);
    const auto give_up = std::chrono::steady_clock::now() + 15s;
    while (seen.alarms < 200 && std::chrono::steady_clock::now() < give_up && !HasFailure())
      map_and_unmap();
    stop_alarm_storm();
    EXPECT_GE(seen.alarms, 200);
  });
}

TEST_P(Signals, NoneIsLostAndNoneOvertakesAnother) {
  const Signpost ready;
  Child client{[&] {
    install_handlers();
    ready.announce();
    const auto end = std::chrono::steady_clock::now() + 15s;
    while (seen.received < signal_count && std::chrono::steady_clock::now() < end && !HasFailure())
      map_and_unmap();
    EXPECT_EQ(seen.received, signal_count);
    EXPECT_EQ(seen.out_of_order, 0);
  }};
  ASSERT_TRUE(ready.await());
  send_numbered_signals(client.pid());
  EXPECT_TRUE(client.wait());
}

TEST_P(Signals, OneThatIsBlockedStaysPending) {
  run_in_child([&] {
    install_handlers();
    sigset_t blocked, pending, after;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    ASSERT_EQ(::sigprocmask(SIG_BLOCK, &blocked, nullptr), 0);
    ASSERT_EQ(::raise(SIGALRM), 0);
    map_and_unmap();
    EXPECT_EQ(seen.alarms, 0);
    ASSERT_EQ(::sigpending(&pending), 0);
    EXPECT_TRUE(sigismember(&pending, SIGALRM));
    ASSERT_EQ(::sigprocmask(SIG_UNBLOCK, &blocked, &after), 0);
    EXPECT_EQ(std::memcmp(&after, &blocked, 8), 0) << "the mask is what it was";
    EXPECT_EQ(seen.alarms, 1);
  });
}

TEST_P(Signals, CallsFromAHandlerWork) {
  // Container and memory for the handler below, in this forked child only.
  static const Container *container_of_handler;
  static const Memory *memory_of_handler;
  static Answer mapped = fails(0), unmapped = fails(0);
  run_in_child([&] {
    container_of_handler = &container();
    memory_of_handler = &private_;
    struct sigaction action {};
    action.sa_handler = [](int) {
      mapped = container_of_handler->map(some_iova, *memory_of_handler);
      unmapped = container_of_handler->unmap_all();
    };
    ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
    ASSERT_EQ(::raise(SIGUSR1), 0);
    EXPECT_EQ(mapped, succeeds);
    EXPECT_EQ(unmapped, unmaps(private_.size()));
  });
}

TEST_P(Signals, AStoppedClientGoesOn) {
  const Signpost working, done;
  Child client{[&] {
    working.announce();
    while (!done.await(0s) && !HasFailure())
      map_and_unmap();
  }};
  ASSERT_TRUE(working.await());
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(::kill(client.pid(), SIGSTOP), 0);
    std::this_thread::sleep_for(3ms);
    ASSERT_EQ(::kill(client.pid(), SIGCONT), 0);
    std::this_thread::sleep_for(3ms);
  }
  done.announce();
  EXPECT_TRUE(client.wait());
}

TEST_P(Signals, TheThreadComesBackAsItLeft) {
  const auto map = map_request(some_iova, private_.data(), private_.size());
  const auto overlapping = map_request(some_iova, private_.data(), page);
  auto unmap = unmap_request(some_iova, private_.size());
  const std::string name = topology::lone_edus(1)[0].address;
  const auto expect_kept = [](const Fd &fd, unsigned long request, const void *argument) {
    ThreadState before = ThreadState::distinctive();
    ThreadState after;
    const long answer = ioctl_with(before, after, fd.number(), request, argument);
    EXPECT_EQ(after.registers, before.registers);
    EXPECT_EQ(after.red_zone, before.red_zone);
    EXPECT_EQ(after.vector, before.vector);
    return answer;
  };
  EXPECT_EQ(expect_kept(container().fd(), VFIO_IOMMU_MAP_DMA, &map), 0);
  EXPECT_EQ(expect_kept(container().fd(), VFIO_IOMMU_MAP_DMA, &overlapping), -EEXIST);
  EXPECT_EQ(expect_kept(container().fd(), VFIO_IOMMU_UNMAP_DMA, &unmap), 0);
  const Fd device{
      static_cast<int>(expect_kept(client().group.fd(), VFIO_GROUP_GET_DEVICE_FD, name.c_str()))};
  EXPECT_TRUE(device.is_open());
}

} // namespace
