// SPDX-License-Identifier: MIT
/// @file
/// Several threads of a client on one container, as the shim's worker pool serves them.

#include <thread>

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

TEST_F(ContainerTest, ServesSeveralThreads) {
  constexpr std::uint64_t threads = 4;
  constexpr std::uint64_t rounds = 250;
  std::vector<std::thread> running;
  for (std::uint64_t number = 0; number < threads; ++number)
    running.emplace_back([this, number] {
      for (std::uint64_t round = 0; round < rounds; ++round) {
        const Iova iova{(number * rounds + round) * 0x1000};
        EXPECT_EQ(container.map(iova, some_memory, Bytes{0x1000}), succeeds);
        if (round % 2 == 0) {
          EXPECT_EQ(container.unmap(iova, Bytes{0x1000}), answers(0x1000));
        }
      }
    });
  for (std::thread &thread : running)
    thread.join();
  EXPECT_EQ(container.unmap_all(), answers(threads * rounds / 2 * 0x1000));
}

TEST_F(MachineTest, GroupsJoinAndLeaveWhileOthersMap) {
  ContainerFile container = program.open_container();
  const GroupFile first = program.open_group_in(first_group, container);
  std::thread mapper([&] {
    for (int round = 0; round < 200; ++round) {
      EXPECT_EQ(container.map(Iova{0x1000}, some_memory, Bytes{0x1000}), succeeds);
      EXPECT_EQ(container.unmap(Iova{0x1000}, Bytes{0x1000}), answers(0x1000));
    }
  });
  for (int round = 0; round < 50; ++round) {
    GroupFile second = program.open_group(second_group);
    EXPECT_EQ(second.set_container(container), succeeds);
    EXPECT_EQ(second.unset_container(), succeeds);
  }
  mapper.join();
}

} // namespace
} // namespace vfio_shim::test
