// SPDX-License-Identifier: MIT
/// @file
/// The device numbers that daemons reserve, and remember.

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "daemon/number_book.hpp"
#include "support/answer.hpp"

namespace vfio_shim::daemon {
namespace {

namespace fs = std::filesystem;
using test::answer_of;
using test::succeeds;

/// A machine with no character devices but the usual ones.
class NumberBookTest : public ::testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "numbers.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    places_.state = root_ / "state";
    places_.locks = root_ / "locks";
    places_.proc = root_ / "proc";
    places_.sys = root_ / "sys";
    fs::create_directories(places_.proc);
    fs::create_directories(places_.sys / "class/cuse");
    fs::create_directories(places_.sys / "dev/char");
    drivers("  1 mem\n 10 misc\n235 vfio\n");
  }
  void TearDown() override { fs::remove_all(root_); }

  void drivers(const std::string &characters) const {
    std::ofstream(places_.proc / "devices") << "Character devices:\n"
                                            << characters << "\nBlock devices:\n120 not-ours\n";
  }
  ReservedNumbers reserve(const std::string &prefix, bool remember = true) const {
    auto reserved = ReservedNumbers::reserve(prefix, remember, places_);
    EXPECT_EQ(answer_of(reserved), succeeds);
    return std::move(reserved.value());
  }

  fs::path root_;
  NumberPlaces places_;
};

TEST_F(NumberBookTest, APrefixHasTheSameNumbersEachTime) {
  const auto first = reserve("vfio").block();
  EXPECT_EQ(first.major, 120U);
  EXPECT_EQ(first.index, 1U) << "block 0 is left to others";
  {
    const auto other = reserve("elsewhere");
    EXPECT_EQ(other.block().index, 2U) << "although nobody uses the first one now";
  }
  const auto again = reserve("vfio").block();
  EXPECT_EQ(again.major, first.major);
  EXPECT_EQ(again.index, first.index);
  EXPECT_EQ(reserve("elsewhere").block().index, 2U);
}

TEST_F(NumberBookTest, AsManyDaemonsAsThereAreBlocksHaveNumbersOfTheirOwn) {
  std::vector<ReservedNumbers> daemons;
  std::set<unsigned int> indices;
  for (unsigned int i = 1; i < cuse::NumberBlock::count; ++i) {
    daemons.push_back(reserve(fmt::format("vfio-shim.{}", i), i % 2 == 0));
    EXPECT_TRUE(indices.insert(daemons.back().block().index).second);
  }
  EXPECT_FALSE(indices.contains(0U));
  EXPECT_EQ(reserve("one-too-many").block().major, 0U) << "the kernel chooses";
  daemons.pop_back();
  EXPECT_EQ(reserve("vfio").block().major, 120U);
}

TEST_F(NumberBookTest, WhoIsNotRememberedLeavesOthersTheirs) {
  const auto first = reserve("vfio").block();
  for (int i = 0; i < 200; ++i)
    EXPECT_NE(reserve(fmt::format("vfio-shim.{}", i), false).block().index, first.index);
  EXPECT_EQ(reserve("next").block().index, 2U);
  EXPECT_EQ(NumberBook::read(places_).blocks.size(), 2U);
}

TEST_F(NumberBookTest, ADriversMajorIsNotTaken) {
  drivers("60 own\n120 own\n121 own too\n");
  EXPECT_EQ(majors_of_others(places_), (std::set{60U, 120U, 121U}));
  EXPECT_EQ(reserve("vfio").block().major, 122U);
  drivers("60 own\n122 late\n");
  EXPECT_EQ(reserve("vfio").block().major, 120U) << "nobody's nodes can have it";
  drivers("");
  EXPECT_EQ(reserve("vfio").block().major, 120U);
}

TEST_F(NumberBookTest, AnotherDaemonsNodesAreNoDrivers) {
  const auto running = reserve("vfio");
  fs::create_directories(places_.sys / "class/cuse/vfio!vfio");
  drivers("120 vfio/vfio\n");
  EXPECT_EQ(reserve("elsewhere").block().major, 120U);
}

TEST_F(NumberBookTest, MajorsOfTheKernelsOwnChoiceComeLast) {
  std::string all;
  for (const auto &[first, last] : {std::pair{120, 127}, std::pair{60, 63}})
    for (int major = first; major <= last; ++major)
      all += fmt::format("{} own\n", major);
  drivers(all);
  EXPECT_EQ(choose_major(places_), 384U);
  for (int major = 384; major <= 511; ++major)
    all += fmt::format("{} own\n", major);
  drivers(all);
  EXPECT_EQ(choose_major(places_), 0U);
  EXPECT_EQ(reserve("vfio").block().major, 0U);
}

TEST_F(NumberBookTest, NumbersThatAreSeenInUseAreNotTaken) {
  const auto first = reserve("vfio").block();
  const auto elsewhere =
      fmt::format("{}:{}", ::gnu_dev_major(first.container()), ::gnu_dev_minor(first.container()));
  fs::create_directories(places_.sys / "dev/char" / elsewhere);
  EXPECT_EQ(reserve("vfio").block().index, 2U) << "a daemon in a container has no lock of ours";
  fs::remove_all(places_.sys / "dev/char" / elsewhere);
  EXPECT_EQ(reserve("vfio").block().index, 2U);
}

TEST_F(NumberBookTest, ABookSurvivesBeingWrittenAndReadAndSpoilt) {
  const NumberBook book{.major = 61, .blocks = {{"vfio", 3}, {"vfio-shim", 63}}};
  const auto read = NumberBook::parse(book.text());
  EXPECT_EQ(read.major, 61U);
  EXPECT_EQ(read.blocks, book.blocks);
  const auto spoilt = NumberBook::parse("major x\nblock 0 zero\nblock 64 beyond\nblock 5\nblock -1 "
                                        "less\n\xff\nblock 6 kept\nmajor 62");
  EXPECT_EQ(spoilt.major, 62U);
  EXPECT_EQ(spoilt.blocks, (std::map<std::string, unsigned int>{{"kept", 6}}));
}

TEST_F(NumberBookTest, WithoutAPlaceToRememberThereAreNumbersAllTheSame) {
  std::ofstream(places_.state) << "no directory";
  EXPECT_EQ(reserve("vfio").block().major, 120U);
}

} // namespace
} // namespace vfio_shim::daemon
