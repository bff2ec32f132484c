// SPDX-License-Identifier: MIT
// Work that is done beside whoever asks for it.

#include "vfio_shim/side_thread.hpp"

#include <atomic>
#include <future>

#include <gtest/gtest.h>

namespace vfio_shim::test {
namespace {

using namespace std::chrono_literals;

TEST(SideThread, IsWaitedForWhileItIsQuick) {
  SideThread aside;
  int done = 0;
  for (int time = 1; time <= 3; ++time) {
    EXPECT_TRUE(aside.run([&] { ++done; }, 5s));
    EXPECT_EQ(done, time);
  }
}

TEST(SideThread, IsNotWaitedForWhenItTakesItsTime) {
  std::promise<void> may_end;
  std::atomic<bool> done = false;
  {
    SideThread aside;
    EXPECT_FALSE(aside.run([&] { may_end.get_future().wait(); }, 10ms));
    EXPECT_FALSE(aside.run([&] { done = true; }, 5s)) << "something else is under way";
    EXPECT_FALSE(done);
    may_end.set_value();
  }
  EXPECT_TRUE(done) << "it comes after that";
}

} // namespace
} // namespace vfio_shim::test
