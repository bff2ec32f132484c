// SPDX-License-Identifier: MIT
// Many threads in one client.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <thread>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr int thread_count = 8;

/// Runs `body(number)` in eight threads and waits for them all.
template <typename Body>
void in_threads(const Body &body) {
  std::vector<std::jthread> threads;
  for (int number = 0; number < thread_count; ++number)
    threads.emplace_back([&body, number] { body(number); });
}

LEGACY_SUITE(Threads, AttachedSuite);

TEST_P(Threads, MapAndUnmapRangesOfTheirOwn) {
  constexpr int rounds = 40;
  const Memory memory{page * 4 * thread_count};
  std::atomic<int> wrong = 0;
  in_threads([&](int number) {
    const Bytes mine = page * 4 * static_cast<std::uint64_t>(number);
    for (int round = 0; round < rounds; ++round) {
      wrong += container().map(some_iova + mine, memory.at(mine), page * 4) != succeeds;
      wrong += container().unmap(some_iova + mine, page * 4) != unmaps(page * 4);
    }
  });
  EXPECT_EQ(wrong, 0) << "of " << 2 * rounds * thread_count << " calls";
  EXPECT_EQ(container().unmap_all(), unmaps({0}));
}

TEST_P(Threads, MapMemoryThatTheyHaveJustMade) {
  std::atomic<int> wrong = 0;
  in_threads([&](int number) {
    const Iova mine = some_iova + 1_MiB * static_cast<std::uint64_t>(number);
    for (int round = 0; round < 10; ++round) {
      const Memory memory{page * 16};
      wrong += container().map(mine, memory) != succeeds;
      wrong += container().unmap(mine, memory.size()) != unmaps(memory.size());
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(Threads, OnlyOneMapsAnIova) {
  const Memory memory{page};
  for (int round = 0; round < 10; ++round) {
    std::atomic<int> first = 0, late = 0;
    std::barrier start{thread_count};
    in_threads([&](int) {
      start.arrive_and_wait();
      const Answer answer = container().map(some_iova, memory);
      first += answer == succeeds;
      late += answer == fails(EEXIST);
    });
    EXPECT_EQ(first, 1);
    EXPECT_EQ(late, thread_count - 1);
    EXPECT_EQ(container().unmap_all(), unmaps(page));
  }
}

TEST_P(Threads, OnlyOneUnmapsAnIova) {
  const Memory memory{page};
  for (int round = 0; round < 10; ++round) {
    ASSERT_EQ(container().map(some_iova, memory), succeeds);
    std::atomic<int> first = 0, late = 0;
    std::barrier start{thread_count};
    in_threads([&](int) {
      start.arrive_and_wait();
      const Answer answer = container().unmap(some_iova, page);
      first += answer == unmaps(page);
      late += answer == unmaps({0}) ||
              (differs(Behaviour::UnmapsAtTheSameTime) &&
               answer == expected(Behaviour::UnmapsAtTheSameTime, unmaps({0})));
    });
    EXPECT_EQ(first, 1);
    EXPECT_EQ(late, thread_count - 1);
  }
}

TEST_P(Threads, AMappingOutlivesTheThreadThatMadeIt) {
  const Memory memory{page * 2};
  memory.fill({0}, Edu::largest_transfer, 1);
  std::jthread{[&] { EXPECT_EQ(container().map(some_iova, memory), succeeds); }}.join();
  copy_by_dma(edu(), some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, 1));
  std::jthread{[&] { EXPECT_EQ(container().unmap_all(), unmaps(page * 2)); }}.join();
}

TEST_P(Threads, AnyThreadSetsUp) {
  const PciDevice other = topology::lone_edus(2)[1];
  std::optional<Client> made;
  std::jthread{[&] { made.emplace(provider(), other); }}.join();
  expect_dma_works(made->container, Edu{made->device});
}

LEGACY_SUITE(ThreadsOfANewProcess, LegacySuite);

/// Each thread has a container of its own, and its call is the process's first one.
TEST_P(ThreadsOfANewProcess, MapAtOnce) {
  constexpr int processes = 20;
  const auto edus = topology::lone_edus(2);
  for (int number = 0; number < processes; ++number)
    run_in_child([&] {
      Container one{provider()}, other{provider()};
      const Group first{provider(), edus[0].group}, second{provider(), edus[1].group};
      ASSERT_EQ(first.set_container(one), succeeds);
      ASSERT_EQ(second.set_container(other), succeeds);
      ASSERT_EQ(one.set_iommu(IommuType::Type1v2), succeeds);
      ASSERT_EQ(other.set_iommu(IommuType::Type1v2), succeeds);
      const Memory memory{page * 2};
      std::atomic<int> ready = 0;
      const auto map_at_once = [&](const Container &container, Bytes offset) {
        for (++ready; ready < 2;) {
        }
        EXPECT_EQ(container.map(some_iova, memory.at(offset), page), succeeds);
      };
      std::jthread thread{[&] { map_at_once(one, {0}); }};
      map_at_once(other, page);
    });
}

} // namespace
