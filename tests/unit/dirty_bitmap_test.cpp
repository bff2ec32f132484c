// SPDX-License-Identifier: MIT
#include "rules/dirty_bitmap.hpp"
#include "rules/user_space.hpp"

#include <gtest/gtest.h>

#include "support/answer.hpp"
#include "support/pages.hpp"

namespace vfio_shim::rules {
namespace {

using test::answer_of;
using test::fails;
using test::succeeds;

constexpr std::uint64_t K4 = 0x1000;
constexpr std::uint64_t M256 = std::uint64_t{256} << 20;

test::Answer check(std::uint64_t pgsize, std::uint64_t size, std::uint64_t range,
                   std::uint64_t address = 0x10000) {
  const Bitmap bitmap{
      .page_size = Bytes{pgsize}, .size = Bytes{size}, .address = ClientAddr{address}};
  return answer_of(check_dirty_bitmap(bitmap, Bytes{range}));
}

TEST(DirtyBitmap, IsMadeOfWholeWords) {
  EXPECT_EQ(dirty_bitmap_size(0), Bytes{0});
  EXPECT_EQ(dirty_bitmap_size(1), Bytes{8});
  EXPECT_EQ(dirty_bitmap_size(64), Bytes{8});
  EXPECT_EQ(dirty_bitmap_size(65), Bytes{16});
  EXPECT_EQ(dirty_bitmap_size(UINT64_MAX), Bytes{(UINT64_MAX / 64 + 1) * 8}) << "no overflow";
  EXPECT_EQ(max_dirty_bitmap_size, Bytes{M256});
}

TEST(DirtyBitmap, MustBeLargeEnough) {
  EXPECT_EQ(check(K4, 8, 64 * K4), succeeds);
  EXPECT_EQ(check(K4, 9, 64 * K4), succeeds);
  EXPECT_EQ(check(K4, 8, 65 * K4), fails(EINVAL));
  EXPECT_EQ(check(K4, 7, K4), fails(EINVAL));
  EXPECT_EQ(check(K4, 0, K4), fails(EINVAL));
}

TEST(DirtyBitmap, MustNotBeLargerThanAnyCanBe) {
  EXPECT_EQ(check(K4, M256, K4), succeeds);
  EXPECT_EQ(check(K4, M256 + 1, K4), fails(EINVAL));
  EXPECT_EQ(check(K4, M256, std::uint64_t{INT_MAX} * K4), succeeds);
  EXPECT_EQ(check(K4, M256, (std::uint64_t{INT_MAX} + 2) * K4), fails(EINVAL));
  EXPECT_EQ(check(K4, M256, UINT64_MAX), fails(EINVAL));
}

TEST(DirtyBitmap, IsMeasuredInItsOwnPages) {
  EXPECT_EQ(check(K4 << 9, 8, 64 * K4 << 9), succeeds);
  EXPECT_EQ(check(3 * K4, 8, 64 * K4), succeeds) << "the lowest bit counts";
  EXPECT_EQ(check(K4, 8, K4 - 1), fails(EINVAL)) << "not one page";
  EXPECT_EQ(check(0, 8, K4), fails(EINVAL));
  EXPECT_EQ(check(std::uint64_t{1} << 63, 8, K4), fails(EINVAL));
}

TEST(DirtyBitmap, MustBeWhereUserMemoryCanBe) {
  EXPECT_EQ(check(K4, 8, K4, 0), succeeds) << "whether it is there is seen later";
  EXPECT_EQ(check(K4, 8, K4, 0xffff888000000000), fails(EINVAL));
  EXPECT_EQ(check(K4, 8, K4, UINT64_MAX - 3), fails(EINVAL)) << "and no wrapping round";
}

TEST(Trackable, IsWhatHasNoMorePagesThanAnIntCanCount) {
  EXPECT_TRUE(trackable(Bytes{std::uint64_t{INT_MAX} * K4}, Bytes{K4}));
  EXPECT_FALSE(trackable(Bytes{(std::uint64_t{INT_MAX} + 1) * K4}, Bytes{K4}));
}

TEST(UserSpace, HasWhatThisProcessHas) {
  const test::Pages pages;
  EXPECT_TRUE(within_user_space(test::address_of(pages.begin()), Bytes{pages.size()}));
  EXPECT_TRUE(within_user_space(ClientAddr{0x7fffffffe000}, Bytes{0x1000}));
}

TEST(UserSpace, EndsBelowTheKernel) {
  EXPECT_FALSE(within_user_space(ClientAddr{std::uint64_t{1} << 57}, Bytes{1}));
  EXPECT_FALSE(within_user_space(ClientAddr{0x7fffffffe000}, Bytes{std::uint64_t{1} << 57}));
  EXPECT_FALSE(within_user_space(ClientAddr{UINT64_MAX}, Bytes{1}));
  EXPECT_FALSE(within_user_space(ClientAddr{0x1000}, Bytes{UINT64_MAX}));
}

} // namespace
} // namespace vfio_shim::rules
