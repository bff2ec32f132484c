// SPDX-License-Identifier: MIT
#include "cuse/open_files.hpp"

#include <cstdint>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace vfio_shim::cuse {
namespace {

using Files = OpenFiles<int>;

TEST(OpenFiles, FindWhatWasAdded) {
  Files files;
  files.add(FileNumber{1}, std::make_shared<int>(11));
  files.add(FileNumber{2}, std::make_shared<int>(22));
  EXPECT_EQ(*files.find(FileNumber{1}), 11);
  EXPECT_EQ(*files.find(FileNumber{2}), 22);
}

TEST(OpenFiles, FindNothingForANumberThatNobodyHas) {
  Files files;
  files.add(FileNumber{1}, std::make_shared<int>(11));
  for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{2}, UINT64_MAX}) {
    EXPECT_EQ(files.find(FileNumber{number}), nullptr) << number;
    EXPECT_EQ(files.take(FileNumber{number}), nullptr) << number;
  }
}

TEST(OpenFiles, AreTakenOnce) {
  Files files;
  files.add(FileNumber{7}, std::make_shared<int>(77));
  EXPECT_FALSE(files.empty());
  EXPECT_EQ(*files.take(FileNumber{7}), 77);
  EXPECT_EQ(files.take(FileNumber{7}), nullptr);
  EXPECT_EQ(files.find(FileNumber{7}), nullptr);
  EXPECT_TRUE(files.empty());
}

TEST(OpenFiles, LiveAsLongAsSomebodyHasFoundThem) {
  Files files;
  files.add(FileNumber{1}, std::make_shared<int>(11));
  const auto found = files.find(FileNumber{1});
  files.take(FileNumber{1}).reset();
  EXPECT_EQ(*found, 11);
  EXPECT_EQ(found.use_count(), 1);
}

/// Each thread has files of its own, whose numbers lie between those of the others.
TEST(OpenFiles, MayBeUsedByManyAtOnce) {
  constexpr std::uint64_t threads = 4;
  constexpr std::uint64_t rounds = 2000;
  Files files;
  std::vector<std::jthread> running;
  for (std::uint64_t thread = 0; thread < threads; ++thread)
    running.emplace_back([&files, thread] {
      for (std::uint64_t round = 0; round < rounds; ++round) {
        const FileNumber number{round * threads + thread};
        files.add(number, std::make_shared<int>(static_cast<int>(number.value)));
        ASSERT_EQ(*files.find(number), static_cast<int>(number.value));
        const auto taken = round % 2 == 0 ? files.take(number) : nullptr;
        ASSERT_EQ(taken != nullptr, round % 2 == 0);
      }
    });
  running.clear();
  for (std::uint64_t number = 0; number < rounds * threads; ++number)
    EXPECT_EQ(files.find(FileNumber{number}) != nullptr, number / threads % 2 != 0) << number;
}

} // namespace
} // namespace vfio_shim::cuse
