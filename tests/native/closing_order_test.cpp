// SPDX-License-Identifier: MIT
// Container, group and device, closed in every order. Whatever comes first, the next program gets
// everything (NativeTest::TearDown() sees to that).

#include <algorithm>

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

class ClosingOrder : public NativeTest, public testing::WithParamInterface<std::string> {};

std::vector<std::string> every_order() {
  std::vector<std::string> orders;
  std::string order = "cdg"; // Container, device, group; sorted for next_permutation().
  do
    orders.push_back(order);
  while (std::ranges::next_permutation(order).found);
  return orders;
}

INSTANTIATE_TEST_SUITE_P(, ClosingOrder, testing::ValuesIn(every_order()),
                         [](const auto &info) { return info.param; });

TEST_P(ClosingOrder, LeavesNothingBehind) {
  for (int life = 0; life < 2; ++life) {
    ContainerFile container = program.open_container();
    GroupFile group = program.open_group_in(group_of(edus[0]), container);
    const legacy::Memory memory{legacy::page * 2};
    ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
    auto device = std::make_optional<OpenEdu>(group.device(edus[0].address));
    ASSERT_TRUE(dma_works(device->edu(), memory, some_iova));

    for (const char what : GetParam()) {
      if (what == 'c')
        container.close();
      if (what == 'd')
        device.reset();
      if (what == 'g')
        group.close();
      // The group's file holds the address space; the container's and the device's do not.
      const bool mapped = GetParam().find('g') > GetParam().find(what);
      if (device) {
        EXPECT_EQ(device_reaches(device->edu(), memory, some_iova), mapped) << "after " << what;
      }
    }
  }
}

TEST_F(NativeTest, ClosingTheContainerLeavesItsGroupsWorking) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group_in(group_of(edus[0]), container);
  const legacy::Memory memory{legacy::page * 2};
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  container.close();
  const OpenEdu device{group.device(edus[0].address)};
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
}

TEST_F(NativeTest, ClosingOneOfTwoGroupsLeavesTheOtherWorking) {
  ContainerFile container = program.open_container();
  GroupFile one = program.open_group_in(group_of(edus[0]), container);
  GroupFile other = program.open_group(group_of(edus[1]));
  ASSERT_EQ(other.set_container(container), succeeds);
  const legacy::Memory memory{legacy::page * 2};
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  const OpenEdu device{other.device(edus[1].address)};
  one.close();
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
}

} // namespace
} // namespace vfio_shim::test
