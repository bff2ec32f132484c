// SPDX-License-Identifier: MIT
/// @file
/// How many containers users get.

#include "cuse/open_limits.hpp"

#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "support/answer.hpp"

namespace vfio_shim::cuse {
namespace {

using test::answer_of;
using test::fails;

constexpr uid_t root = 0;
constexpr uid_t someone = 1000;

/// Takes places until one is refused. @return Those taken.
std::vector<OpenLimits::Place> take_all(OpenLimits &limits, uid_t user) {
  std::vector<OpenLimits::Place> taken;
  for (;;) {
    auto place = limits.take(user);
    if (!place) {
      EXPECT_EQ(answer_of(place), fails(ENFILE));
      EXPECT_TRUE(place.error().for_operator);
      return taken;
    }
    taken.push_back(std::move(*place));
  }
}

TEST(OpenLimitsTest, AUserGetsNoMoreThanIsAUsers) {
  OpenLimits limits({.per_user = 3, .total = 80});
  auto taken = take_all(limits, someone);
  EXPECT_EQ(taken.size(), 3U);
  EXPECT_TRUE(limits.take(someone + 1)) << "others have their own";
  taken.pop_back();
  EXPECT_TRUE(limits.take(someone)) << "what was given back is free again";
}

TEST(OpenLimitsTest, ManyUsersLeaveRootItsShare) {
  OpenLimits limits({.per_user = 10, .total = 80});
  std::vector<std::vector<OpenLimits::Place>> taken;
  for (uid_t user = someone; user < someone + 20; ++user)
    taken.push_back(take_all(limits, user));
  std::size_t count = 0;
  for (const auto &users : taken)
    count += users.size();
  EXPECT_EQ(count, 70U);
  EXPECT_EQ(take_all(limits, root).size(), 10U);
}

TEST(OpenLimitsTest, RootHasTheTotalOnly) {
  OpenLimits limits({.per_user = 3, .total = 80});
  EXPECT_EQ(take_all(limits, root).size(), 80U);
}

TEST(OpenLimitsTest, APlaceThatWasMovedIsGivenBackOnce) {
  OpenLimits limits({.per_user = 1, .total = 80});
  {
    auto place = limits.take(someone);
    ASSERT_TRUE(place);
    const OpenLimits::Place moved = std::move(*place);
    EXPECT_FALSE(limits.take(someone));
  }
  EXPECT_EQ(take_all(limits, someone).size(), 1U);
}

TEST(OpenLimitsTest, APlaceMayOutliveThem) {
  auto limits = std::make_unique<OpenLimits>(ContainerLimits{.per_user = 1, .total = 8});
  const auto place = limits->take(someone);
  limits.reset();
  EXPECT_TRUE(place);
}

} // namespace
} // namespace vfio_shim::cuse
