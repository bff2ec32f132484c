// SPDX-License-Identifier: MIT
/// @file
/// When a worker keeps a session to itself.

#include "cuse/pace.hpp"

#include <gtest/gtest.h>

namespace vfio_shim::cuse {
namespace {

using namespace std::chrono_literals;

constexpr Tid someone{7};
constexpr Tid somebody_else{8};

class PaceTest : public testing::Test {
protected:
  /// A call that comes @p pause after the last answer and takes @p work.
  bool call(Pace::Duration pause, Pace::Duration work = 10us, Tid caller = someone) {
    now_ += pause;
    const bool burst = pace_.taken(caller, now_);
    now_ += work;
    pace_.answered(now_);
    return burst;
  }

  void call_quickly_many_times() {
    constexpr int many = 20;
    for (int n = 0; n < many; ++n)
      call(10us);
  }

  Pace pace_;
  Pace::Clock::time_point now_{1h};
};

TEST_F(PaceTest, AFewCallsAreNoBurst) {
  EXPECT_FALSE(call(10us));
  EXPECT_FALSE(call(10us));
  EXPECT_FALSE(call(10us));
}

TEST_F(PaceTest, ManyQuickOnesAre) {
  call_quickly_many_times();
  EXPECT_TRUE(call(10us));
}

TEST_F(PaceTest, NotWithPausesBetweenThem) {
  constexpr int many = 20;
  for (int n = 0; n < many; ++n)
    EXPECT_FALSE(call(1ms));
}

TEST_F(PaceTest, APauseEndsIt) {
  call_quickly_many_times();
  EXPECT_FALSE(call(1ms));
  EXPECT_FALSE(call(10us));
}

TEST_F(PaceTest, SoDoesAnotherThread) {
  call_quickly_many_times();
  EXPECT_FALSE(call(10us, 10us, somebody_else));
  EXPECT_FALSE(call(10us));
}

TEST_F(PaceTest, ALongCallIsStillPartOfItButTheNextOneIsNot) {
  call_quickly_many_times();
  EXPECT_TRUE(call(10us, 10ms));
  EXPECT_FALSE(call(10us));
}

TEST_F(PaceTest, WhoMissesTheNextOneStartsAgain) {
  call_quickly_many_times();
  pace_.missed();
  EXPECT_FALSE(call(10us));
  call_quickly_many_times();
  EXPECT_TRUE(call(10us));
}

TEST_F(PaceTest, WhoMadeOthersWaitMustWait) {
  call_quickly_many_times();
  pace_.others_waited(now_);
  call_quickly_many_times();
  EXPECT_FALSE(call(10us));
  call(200ms);
  call_quickly_many_times();
  EXPECT_TRUE(call(10us));
}

TEST_F(PaceTest, PatienceFollowsThePauses) {
  call_quickly_many_times();
  const auto for_quick_ones = pace_.patience();
  constexpr int many = 40;
  for (int n = 0; n < many; ++n)
    call(250us);
  EXPECT_LT(for_quick_ones, pace_.patience());
  EXPECT_LE(pace_.patience(), Pace::short_pause);
}

} // namespace
} // namespace vfio_shim::cuse
