// SPDX-License-Identifier: MIT
#include "cli/doctor/trial.hpp"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

#include <gtest/gtest.h>

namespace vfio_shim::cli::doctor {
namespace {

Result<void> succeed() {
  return {};
}

Result<void> lose() {
  return fail(EBUSY, "PTRACE_SEIZE");
}

TEST(TrialTest, GoesOnAfterAStepThatFailed) {
  Trial trial;
  EXPECT_TRUE(trial.step("one", succeed));
  EXPECT_TRUE(trial.succeeded());
  const bool borrowed = trial.step("borrow", lose);
  EXPECT_FALSE(borrowed);
  EXPECT_FALSE(trial.step_if(borrowed, "call", succeed));
  EXPECT_TRUE(trial.step("another", succeed));
  EXPECT_FALSE(trial.succeeded());
  ASSERT_EQ(trial.steps().size(), 4U);
  EXPECT_EQ(trial.steps()[1].outcome, Step::Outcome::failed);
  EXPECT_EQ(trial.steps()[2].outcome, Step::Outcome::skipped);
  EXPECT_EQ(trial.steps()[3].outcome, Step::Outcome::ok);
}

TEST(TrialTest, TakesNoStepThatNeedsAnother) {
  Trial trial;
  bool taken = false;
  trial.step_if(false, "call", [&taken]() -> Result<void> {
    taken = true;
    return {};
  });
  EXPECT_FALSE(taken);
}

TEST(TrialTest, HasALineForEachStep) {
  Trial trial;
  trial.step("borrow its thread", lose);
  trial.step_if(false, "call", succeed);
  const std::string text = trial_text(trial, false);
  EXPECT_NE(text.find("failed   borrow its thread"), std::string::npos) << text;
  EXPECT_NE(text.find("ms  EBUSY"), std::string::npos) << text;
  EXPECT_NE(text.find("skipped  call"), std::string::npos) << text;
  EXPECT_NE(text.find("does not work here yet"), std::string::npos) << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(trial_text(trial, true).find('\x1b'), std::string::npos);
}

TEST(TrialTest, HasTheKeysThatAreDocumented) {
  Trial trial;
  trial.step("one", succeed);
  trial.step("two", lose);
  trial.step_if(false, "three", succeed);
  const auto steps = trial_json(trial);
  ASSERT_EQ(steps.size(), 3U);
  EXPECT_EQ(steps[0].at("step"), "one");
  EXPECT_EQ(steps[0].at("outcome"), "ok");
  EXPECT_GE(steps[0].at("ms").get<double>(), 0);
  EXPECT_TRUE(steps[0].at("found").is_null());
  EXPECT_EQ(steps[1].at("outcome"), "failed");
  EXPECT_NE(steps[1].at("found").get<std::string>().find("EBUSY"), std::string::npos);
  EXPECT_EQ(steps[2].at("outcome"), "skipped");
}

} // namespace
} // namespace vfio_shim::cli::doctor
