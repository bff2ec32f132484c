// SPDX-License-Identifier: MIT
// How many of the clients' failures are logged.

#include "observe/warning_budget.hpp"

#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;
using vfio_shim::observe::WarningBudget;

class WarningBudgetTest : public testing::Test {
protected:
  void spend_all() {
    for (std::uint32_t n = 0; n < WarningBudget::most; ++n)
      ASSERT_EQ(budget_.spend(now_), 0u);
  }

  WarningBudget budget_;
  WarningBudget::Clock::time_point now_{100h};
};

TEST_F(WarningBudgetTest, WithholdsWhatIsTooMuchAtOnce) {
  spend_all();
  EXPECT_EQ(budget_.spend(now_), std::nullopt);
  EXPECT_EQ(budget_.spend(now_ + WarningBudget::pace - 1ns), std::nullopt);
}

TEST_F(WarningBudgetTest, GoesOnSlowlyAndSaysWhatWasWithheld) {
  spend_all();
  for (int n = 0; n < 7; ++n)
    EXPECT_EQ(budget_.spend(now_), std::nullopt);
  now_ += WarningBudget::pace;
  EXPECT_EQ(budget_.spend(now_), 7u);
  EXPECT_EQ(budget_.spend(now_), std::nullopt);
  now_ += WarningBudget::pace * 2;
  EXPECT_EQ(budget_.spend(now_), 1u);
  EXPECT_EQ(budget_.spend(now_), 0u);
  EXPECT_EQ(budget_.spend(now_), std::nullopt);
}

TEST_F(WarningBudgetTest, PartsOfThePaceAddUp) {
  spend_all();
  constexpr auto quarter = std::chrono::milliseconds{WarningBudget::pace} / 4;
  for (int n = 0; n < 3; ++n)
    EXPECT_EQ(budget_.spend(now_ += quarter), std::nullopt);
  EXPECT_EQ(budget_.spend(now_ += quarter), 3u);
}

TEST_F(WarningBudgetTest, IsFullAfterAQuietTime) {
  spend_all();
  now_ += WarningBudget::pace * (WarningBudget::most * 3);
  spend_all();
  EXPECT_EQ(budget_.spend(now_), std::nullopt) << "and not more than full";
}

} // namespace
