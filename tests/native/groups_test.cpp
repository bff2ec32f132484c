// SPDX-License-Identifier: MIT
// Groups and containers: who owns what, and who sees what.

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

class NativeGroups : public NativeContainerTest {
protected:
  GroupFile second() { return program.open_group(group_of(edus[1])); }

  legacy::Memory memory{legacy::page * 2};
};

TEST_F(NativeGroups, ShareAContainersMappings) {
  GroupFile other = second();
  ASSERT_EQ(other.set_container(container), succeeds);
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const OpenEdu one{group->device(edus[0].address)};
  const OpenEdu two{other.device(edus[1].address)};
  EXPECT_TRUE(dma_works(one.edu(), memory, some_iova));
  EXPECT_TRUE(dma_works(two.edu(), memory, some_iova));
  ASSERT_EQ(container.unmap_all(), answers(0x2000));
  EXPECT_FALSE(device_reaches(one.edu(), memory, some_iova));
  EXPECT_FALSE(device_reaches(two.edu(), memory, some_iova));
}

TEST_F(NativeGroups, SeeWhatWasMappedBeforeTheyJoined) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  GroupFile other = second();
  ASSERT_EQ(other.set_container(container), succeeds);
  const OpenEdu late{other.device(edus[1].address)};
  EXPECT_TRUE(dma_works(late.edu(), memory, some_iova));
}

TEST_F(NativeGroups, LeaveTheirMappingsToTheOthers) {
  GroupFile other = second();
  ASSERT_EQ(other.set_container(container), succeeds);
  ASSERT_EQ(map(some_iova, memory), succeeds);
  { const OpenEdu leaving{group->device(edus[0].address)}; }
  ASSERT_EQ(group->unset_container(), succeeds);
  const OpenEdu staying{other.device(edus[1].address)};
  EXPECT_TRUE(dma_works(staying.edu(), memory, some_iova));
  EXPECT_EQ(container.unmap_all(), answers(0x2000));
}

TEST_F(NativeGroups, HaveTheirMappingsPinnedOnceForAllOfThem) {
  const std::uint64_t before = pinned_bytes();
  ASSERT_EQ(map(some_iova, memory), succeeds);
  GroupFile other = second();
  ASSERT_EQ(other.set_container(container), succeeds);
  EXPECT_EQ(pinned_bytes(), before + memory.size().count);
  ASSERT_EQ(group->unset_container(), succeeds);
  EXPECT_EQ(pinned_bytes(), before + memory.size().count) << "the other one is still there";
  ASSERT_EQ(other.unset_container(), succeeds);
  EXPECT_EQ(pinned_bytes(), before);
}

TEST_F(NativeGroups, JoinAndLeaveAsOftenAsTheyLike) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const OpenEdu staying{group->device(edus[0].address)};
  for (int round = 0; round < 20; ++round) {
    GroupFile other = second();
    ASSERT_EQ(other.set_container(container), succeeds) << "round " << round;
    ASSERT_TRUE(other.device(edus[1].address)) << "round " << round;
    ASSERT_EQ(other.unset_container(), succeeds) << "round " << round;
  }
  EXPECT_TRUE(dma_works(staying.edu(), memory, some_iova));
}

TEST_F(NativeGroups, DoNotSeeAnotherContainersMappings) {
  ContainerFile apart = program.open_container();
  GroupFile other = program.open_group_in(group_of(edus[1]), apart);
  const legacy::Memory others{legacy::page * 2};
  ASSERT_EQ(map(some_iova, memory), succeeds);
  ASSERT_EQ(apart.map(other_iova, address_of(others), size_of(others)), succeeds);
  const OpenEdu one{group->device(edus[0].address)};
  const OpenEdu two{other.device(edus[1].address)};
  EXPECT_TRUE(device_reaches(one.edu(), memory, some_iova));
  EXPECT_FALSE(device_reaches(one.edu(), others, other_iova));
  EXPECT_TRUE(device_reaches(two.edu(), others, other_iova));
  EXPECT_FALSE(device_reaches(two.edu(), memory, some_iova));
}

TEST_F(NativeGroups, HaveOneOwnerAtATime) {
  ContainerFile thief = program.open_container();
  GroupFile same = program.open_group(group_of(edus[0]));
  EXPECT_EQ(same.set_container(thief), fails(EPERM));

  ASSERT_EQ(group->unset_container(), succeeds);
  EXPECT_EQ(same.set_container(thief), succeeds);
  EXPECT_EQ(group->set_container(container), fails(EPERM));
}

TEST_F(NativeGroups, AreOwnedWhileTheirDeviceIsOpenAtTheClient) {
  const OpenEdu device{group->device(edus[0].address)};
  ContainerFile thief = program.open_container();
  GroupFile same = program.open_group(group_of(edus[0]));
  EXPECT_EQ(same.set_container(thief), fails(EPERM));
}

/// Two devices that the IOMMU cannot tell apart.
class NativePair : public NativeTest {
protected:
  void SetUp() override { group.emplace(program.open_group_in(group_of(pair[0]), container)); }
  void TearDown() override {
    container.close();
    group.reset();
    NativeTest::TearDown();
  }

  ContainerFile container = program.open_container();
  std::optional<GroupFile> group;
  legacy::Memory memory{legacy::page * 2};
};

TEST_F(NativePair, AreBothInTheGroup) {
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  const OpenEdu one{group->device(pair[0].address)};
  const OpenEdu two{group->device(pair[1].address)};
  EXPECT_TRUE(dma_works(one.edu(), memory, some_iova));
  EXPECT_TRUE(dma_works(two.edu(), memory, some_iova));
}

TEST_F(NativePair, WorkOneWithoutTheOther) {
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  for (const legacy::PciDevice &only : pair) {
    const OpenEdu device{group->device(only.address)};
    EXPECT_TRUE(dma_works(device.edu(), memory, some_iova)) << only.address;
  }
}

TEST_F(NativePair, KeepTheGroupBusyUntilBothAreClosed) {
  auto one = std::make_optional<OpenEdu>(group->device(pair[0].address));
  auto two = std::make_optional<OpenEdu>(group->device(pair[1].address));
  one.reset();
  EXPECT_EQ(group->unset_container(), fails(EBUSY));
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  EXPECT_TRUE(dma_works(two->edu(), memory, some_iova));
  two.reset();
  EXPECT_EQ(group->unset_container(), succeeds);
}

TEST_F(NativePair, AreClosedAndOpenedInTurns) {
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  auto one = std::make_optional<OpenEdu>(group->device(pair[0].address));
  for (int round = 0; round < 2; ++round) {
    auto two = std::make_optional<OpenEdu>(group->device(pair[1].address));
    one.reset();
    EXPECT_TRUE(dma_works(two->edu(), memory, some_iova)) << "round " << round;
    one.emplace(group->device(pair[0].address));
    two.reset();
    EXPECT_TRUE(dma_works(one->edu(), memory, some_iova)) << "round " << round;
  }
}

} // namespace
} // namespace vfio_shim::test
