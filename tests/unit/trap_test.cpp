// SPDX-License-Identifier: MIT
/// @file
/// The seccomp filter of `vfio-shim run`: which calls arrive at its listener, and how they end.

#include <cerrno>
#include <functional>
#include <future>

#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervise/trap.hpp"

namespace vfio_shim::supervise {
namespace {

using namespace std::chrono_literals;

/// No descriptor of these numbers is open.
constexpr int low = 300;
constexpr int high = 5000;
constexpr std::uint64_t some_address = 0x1234;

/// What an ioctl returned: its value, or its negative errno.
int call(int file, unsigned long command) {
  const int result = ::ioctl(file, command, some_address);
  return result < 0 ? -errno : result;
}

/// A thread of this process whose calls are trapped.
class TrappedThread {
public:
  /// @param body Its result is what result() returns.
  explicit TrappedThread(std::function<int()> body)
      : result_(std::async(std::launch::async, [this, body = std::move(body)] {
          ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); // The tests need not be root.
          id_ = static_cast<int>(::syscall(SYS_gettid));
          listener_.set_value(trap_ioctls());
          return body();
        })) {}

  Result<Fd> listener() { return listener_.get_future().get(); }
  int id() const { return id_; }
  bool still_calls(std::chrono::milliseconds patience) {
    return result_.wait_for(patience) != std::future_status::ready;
  }
  int result() { return result_.get(); }

private:
  std::promise<Result<Fd>> listener_;
  int id_ = 0;
  std::future<int> result_;
};

/// The listener of a thread that makes one call.
class OneCall {
public:
  OneCall(int file, unsigned long command)
      : thread([=] { return call(file, command); }), listener(thread.listener().value()) {}

  TrappedThread thread;
  Listener listener;
};

class TrappedCommand : public testing::TestWithParam<unsigned long> {};
INSTANTIATE_TEST_SUITE_P(, TrappedCommand,
                         testing::Values(KVM_SET_DEVICE_ATTR, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
                                         VFIO_DEVICE_PCI_HOT_RESET));

TEST_P(TrappedCommand, ArrivesAndGetsItsAnswer) {
  for (const long answer : {0L, 7L, -long{EXDEV}}) {
    OneCall one(high, GetParam());
    ASSERT_EQ(one.listener.wait(10s), Listener::News::call);
    const auto taken = one.listener.take();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->thread.value, one.thread.id());
    EXPECT_EQ(taken->file.value, high);
    EXPECT_EQ(taken->command, GetParam());
    EXPECT_EQ(taken->argument, some_address);
    EXPECT_TRUE(one.listener.waits(*taken));
    EXPECT_TRUE(one.thread.still_calls(20ms));
    EXPECT_TRUE(one.listener.answer(*taken, answer));
    EXPECT_EQ(one.thread.result(), answer);
    EXPECT_FALSE(one.listener.waits(*taken));
    EXPECT_FALSE(one.listener.answer(*taken, answer)) << "nobody is there to get it";
  }
}

TEST_P(TrappedCommand, MayGetAFileBeforeItsAnswer) {
  const Fd file{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
  OneCall one(high, GetParam());
  ASSERT_EQ(one.listener.wait(10s), Listener::News::call);
  const auto taken = one.listener.take();
  ASSERT_TRUE(taken);
  const auto number = one.listener.install(*taken, file);
  ASSERT_TRUE(number);
  const Fd installed{number->value}; // The thread is one of this process.
  EXPECT_NE(installed.get(), file.get());
  EXPECT_EQ(::fcntl(installed.get(), F_GETFD), FD_CLOEXEC);
  char byte = 1;
  EXPECT_EQ(::read(installed.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 0);
  EXPECT_TRUE(one.thread.still_calls(20ms));
  one.listener.answer(*taken, 0);
  EXPECT_EQ(one.thread.result(), 0);
  EXPECT_EQ(one.listener.install(*taken, file).error().code, ENOENT);
}

TEST_P(TrappedCommand, IsTheKernelsIfItIsLetThrough) {
  OneCall one(high, GetParam());
  ASSERT_EQ(one.listener.wait(10s), Listener::News::call);
  const auto taken = one.listener.take();
  ASSERT_TRUE(taken);
  one.listener.let_through(*taken);
  EXPECT_EQ(one.thread.result(), -EBADF);
}

TEST_P(TrappedCommand, FailsIfNobodyListens) {
  std::promise<void> closed;
  TrappedThread thread([&] {
    closed.get_future().wait();
    return call(high, GetParam());
  });
  thread.listener()->reset();
  closed.set_value();
  EXPECT_EQ(thread.result(), -ENOSYS);
}

TEST(Trap, LeavesAllOtherCallsAlone) {
  for (const auto &[file, command] : {std::pair<int, unsigned long>{low, VFIO_IOMMU_GET_INFO},
                                      {low, VFIO_IOMMU_MAP_DMA},
                                      {high, VFIO_IOMMU_UNMAP_DMA},
                                      {high, VFIO_DEVICE_RESET},
                                      {high, KVM_GET_DEVICE_ATTR}}) {
    OneCall one(file, command);
    EXPECT_EQ(one.thread.result(), -EBADF) << std::hex << command;
    EXPECT_EQ(one.listener.wait(10s), Listener::News::end) << std::hex << command;
  }
}

TEST(Trap, IsSetOnlyOnce) {
  TrappedThread thread([] {
    const auto again = trap_ioctls();
    return again ? 0 : again.error().code;
  });
  const auto listener = thread.listener();
  EXPECT_EQ(thread.result(), EBUSY);
}

} // namespace
} // namespace vfio_shim::supervise
