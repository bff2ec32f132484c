// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "bitmap.hpp"

namespace vfio_shim {
namespace {

using Words = std::vector<std::uint64_t>;

constexpr std::uint64_t all = ~std::uint64_t{0};

Words first_bits(std::uint64_t count) {
  Words bits(3);
  set_first_bits(bits, count);
  return bits;
}

TEST(FirstBits, AreSetAndNoOthers) {
  EXPECT_EQ(first_bits(0), (Words{0, 0, 0}));
  EXPECT_EQ(first_bits(1), (Words{1, 0, 0}));
  EXPECT_EQ(first_bits(63), (Words{all >> 1, 0, 0}));
  EXPECT_EQ(first_bits(64), (Words{all, 0, 0}));
  EXPECT_EQ(first_bits(65), (Words{all, 1, 0}));
  EXPECT_EQ(first_bits(192), (Words{all, all, all}));
}

TEST(FirstBits, LeaveTheOthersAsTheyAre) {
  Words bits{0xf0, 0xf0};
  set_first_bits(bits, 2);
  EXPECT_EQ(bits, (Words{0xf3, 0xf0}));
}

TEST(MovedUp, KeepsWhatNeedNotMove) {
  EXPECT_EQ(moved_up(Words{5, 6}, 128, 0), (Words{5, 6}));
  EXPECT_EQ(moved_up(Words{5, 6}, 65, 0), (Words{5, 6}));
}

TEST(MovedUp, CarriesIntoTheNextWord) {
  EXPECT_EQ(moved_up(Words{all}, 64, 1), (Words{all << 1, 1}));
  EXPECT_EQ(moved_up(Words{all, 1}, 65, 63), (Words{all << 63, all}));
}

TEST(MovedUp, TakesNoMoreWordsThanItMust) {
  EXPECT_EQ(moved_up(Words{1}, 1, 63).size(), 1U);
  EXPECT_EQ(moved_up(Words{3}, 2, 63).size(), 2U);
  EXPECT_EQ(moved_up(Words{}, 0, 0).size(), 0U);
}

RC_GTEST_PROP(MovedUpProperty, EveryBitIsWhereItBelongs, ()) {
  const auto places = *rc::gen::container<std::vector<bool>>(rc::gen::arbitrary<bool>());
  const auto shift = *rc::gen::inRange<unsigned int>(0, 64);
  Words bits(places.size() / 64 + 1);
  for (std::size_t place = 0; place < places.size(); ++place)
    bits[place / 64] |= std::uint64_t{places[place]} << place % 64;
  const auto moved = moved_up(bits, places.size(), shift);
  RC_ASSERT(moved.size() == (places.size() + shift + 63) / 64);
  for (std::size_t bit = 0; bit < moved.size() * 64; ++bit) {
    const bool wanted = bit >= shift && bit - shift < places.size() && places[bit - shift];
    RC_ASSERT(((moved[bit / 64] >> bit % 64 & 1) != 0) == wanted);
  }
}

} // namespace
} // namespace vfio_shim
