// SPDX-License-Identifier: MIT
/// @file
/// Which device number a node gets, and that two never have the same one.

#include "cuse/device_numbers.hpp"

#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "support/answer.hpp"

namespace vfio_shim::cuse {
namespace {

using test::answer_of;
using test::fails;

TEST(NumberBlockTest, AGroupHasTheMinorThatBelongsToItsNumber) {
  const NumberBlock block{.major = 120, .index = 2};
  EXPECT_EQ(block.container(), ::gnu_dev_makedev(120, 2 * NumberBlock::size));
  EXPECT_EQ(block.group(GroupId{0}), ::gnu_dev_makedev(120, 2 * NumberBlock::size + 1));
  EXPECT_EQ(block.group(GroupId{4711}), ::gnu_dev_makedev(120, 2 * NumberBlock::size + 4712));
}

TEST(NumberBlockTest, ThousandsOfGroupsInEveryBlockHaveNumbersOfTheirOwn) {
  constexpr std::uint32_t groups = 4000;
  std::set<dev_t> numbers;
  for (unsigned int index = 1; index < NumberBlock::count; ++index) {
    const NumberBlock block{.major = 120, .index = index};
    EXPECT_TRUE(numbers.insert(block.container()).second);
    for (std::uint32_t group = 0; group < groups; ++group)
      EXPECT_TRUE(numbers.insert(block.group(GroupId{group})).second);
  }
  EXPECT_EQ(::gnu_dev_major(*numbers.begin()), 120U);
  EXPECT_EQ(::gnu_dev_major(*numbers.rbegin()), 120U);
  EXPECT_LT(::gnu_dev_minor(*numbers.rbegin()), 1U << 20U) << "the kernel's limit";
}

TEST(NumberBlockTest, AGroupBeyondTheBlockIsLeftToTheKernel) {
  const NumberBlock block{.major = 120, .index = 1};
  constexpr std::uint32_t last = NumberBlock::size - 2;
  EXPECT_EQ(block.group(GroupId{last}), ::gnu_dev_makedev(120, 2 * NumberBlock::size - 1));
  EXPECT_EQ(block.group(GroupId{last + 1}), dev_t{0});
  EXPECT_EQ(block.group(GroupId{UINT32_MAX}), dev_t{0});
}

TEST(NumberBlockTest, WithoutAMajorAllIsLeftToTheKernel) {
  EXPECT_EQ(NumberBlock{}.container(), dev_t{0});
  EXPECT_EQ(NumberBlock{}.group(GroupId{7}), dev_t{0});
}

TEST(DeviceNumbersTest, ANumberIsLentToOneNodeAtATime) {
  const auto numbers = DeviceNumbers::create({.major = 120, .index = 1});
  auto first = numbers->of_group(GroupId{7});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->number(), ::gnu_dev_makedev(120, NumberBlock::size + 8));
  EXPECT_EQ(answer_of(numbers->of_group(GroupId{7})), fails(EEXIST));
  EXPECT_TRUE(numbers->of_group(GroupId{8})) << "others are free";
  EXPECT_TRUE(numbers->of_container());
  {
    const DeviceNumbers::Lease ending = std::move(*first);
    EXPECT_EQ(answer_of(numbers->of_group(GroupId{7})), fails(EEXIST)) << "moved is not ended";
  }
  EXPECT_TRUE(numbers->of_group(GroupId{7}));
}

TEST(DeviceNumbersTest, ALeaseOutlivesTheDaemonsOwnEndOfIt) {
  auto numbers = DeviceNumbers::create({.major = 120, .index = 1});
  auto lease = numbers->of_container();
  numbers.reset();
  ASSERT_TRUE(lease);
  EXPECT_NE(lease->number(), dev_t{0});
}

TEST(DeviceNumbersTest, WhatTheKernelChoosesIsNotCounted) {
  const auto numbers = DeviceNumbers::create({});
  const auto first = numbers->of_container();
  const auto second = numbers->of_container();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(second->number(), dev_t{0});
}

} // namespace
} // namespace vfio_shim::cuse
