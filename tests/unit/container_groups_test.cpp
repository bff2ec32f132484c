// SPDX-License-Identifier: MIT
/// @file
/// Groups joining and leaving a container, and files closed in any order.

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr Bytes page{0x1000};
using Log = std::vector<std::string>;

class Joining : public MachineTest {
protected:
  ContainerFile container = program.open_container();
};

TEST_F(Joining, ClaimsTheGroup) {
  GroupFile group = program.open_group(first_group);
  EXPECT_EQ(group.set_container(container), succeeds);
  EXPECT_TRUE(machine.claimed(first_group));
  EXPECT_EQ(machine.log, (Log{"claim 1"})) << "attaching waits for VFIO_SET_IOMMU";
}

TEST_F(Joining, PutsSeveralGroupsIntoOneAddressSpace) {
  GroupFile first = program.open_group(first_group);
  GroupFile second = program.open_group(second_group);
  EXPECT_EQ(first.set_container(container), succeeds);
  EXPECT_EQ(second.set_container(container), succeeds);
  EXPECT_EQ(container.set_iommu(), succeeds);
  EXPECT_EQ(machine.log, (Log{"claim 1", "claim 5", "attach 1", "attach 5"}));
  EXPECT_EQ(machine.backends_alive(), 1U);
}

TEST_F(Joining, AttachesAtOnceIfTheIommuIsSet) {
  const GroupFile first = program.open_group_in(first_group, container);
  machine.log.clear();
  GroupFile second = program.open_group(second_group);
  EXPECT_EQ(second.set_container(container), succeeds);
  EXPECT_EQ(machine.log, (Log{"claim 5", "attach 5"}));
}

TEST_F(Joining, FailsForAGroupThatAnotherOwnsAndLeavesNoTrace) {
  machine.fail_next("claim", EPERM);
  GroupFile group = program.open_group(first_group);
  EXPECT_EQ(group.set_container(container), fails(EPERM));
  EXPECT_EQ(machine.backends_alive(), 0U);
  EXPECT_EQ(container.set_iommu(), fails(EINVAL)) << "it has no group";
  EXPECT_EQ(group.set_container(container), succeeds) << "and can try again";
}

TEST_F(Joining, FailsIfThereIsNoBackend) {
  machine.fail_next("create", ENOENT);
  GroupFile group = program.open_group(first_group);
  EXPECT_EQ(group.set_container(container), fails(ENOENT));
  EXPECT_EQ(group.set_container(container), succeeds);
}

TEST_F(Joining, FailsForTheSecondGroupWithoutHarmToTheFirst) {
  const GroupFile first = program.open_group_in(first_group, container);
  ASSERT_EQ(container.map(Iova{0x1000}, some_memory, page), succeeds);
  machine.fail_next("claim", EPERM);
  GroupFile second = program.open_group(second_group);
  EXPECT_EQ(second.set_container(container), fails(EPERM));
  EXPECT_EQ(container.unmap_all(), answers(0x1000));
}

TEST_F(Joining, FailsIfTheGroupsReservedRegionsAreMapped) {
  const GroupFile first = program.open_group_in(first_group, container);
  ASSERT_EQ(container.map(pair_reserved.first, some_memory, page), succeeds);
  GroupFile pair = program.open_group(pair_group);
  EXPECT_EQ(pair.set_container(container), fails(EINVAL));
  EXPECT_FALSE(machine.claimed(pair_group)) << "it was let go again";
  EXPECT_EQ(container.info().usable.size(), 2U);

  ASSERT_EQ(container.unmap_all(), answers(0x1000));
  EXPECT_EQ(pair.set_container(container), succeeds);
  EXPECT_EQ(container.map(pair_reserved.first, some_memory, page), fails(EINVAL));
}

TEST_F(Joining, FailsIfTheAddressSpaceIsNotKnown) {
  const GroupFile first = program.open_group_in(first_group, container);
  machine.fail_next("address_space", EIO);
  GroupFile second = program.open_group(second_group);
  EXPECT_EQ(second.set_container(container), fails(EIO));
  EXPECT_FALSE(machine.claimed(second_group));
}

TEST_F(Joining, IsForOneContainerAtATime) {
  ContainerFile other = program.open_container();
  GroupFile group = program.open_group(first_group);
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_EQ(group.set_container(container), fails(EINVAL));
  EXPECT_EQ(group.set_container(other), fails(EINVAL));
}

class Leaving : public ContainerTest {};

TEST_F(Leaving, LetsTheGroupGo) {
  EXPECT_EQ(group->unset_container(), succeeds);
  EXPECT_FALSE(machine.claimed(first_group));
  EXPECT_EQ(group->unset_container(), fails(EINVAL)) << "once";
}

TEST_F(Leaving, ByTheLastGroupMakesTheContainerNew) {
  ASSERT_EQ(container.map(Iova{0x1000}, some_memory, page), succeeds);
  ASSERT_EQ(group->unset_container(), succeeds);
  EXPECT_EQ(machine.backends_alive(), 0U);
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EINVAL)) << "no IOMMU set";
  EXPECT_EQ(container.set_iommu(), fails(EINVAL)) << "no group";

  ASSERT_EQ(group->set_container(container), succeeds);
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1_IOMMU), succeeds) << "the other version, this time";
  EXPECT_EQ(container.info().available, 65535U);
  EXPECT_EQ(container.map(Iova{0x1000}, some_memory, page), succeeds);
}

TEST_F(Leaving, ByOneOfTwoGroupsKeepsTheMappings) {
  GroupFile second = program.open_group(second_group);
  ASSERT_EQ(second.set_container(container), succeeds);
  ASSERT_EQ(container.map(Iova{0x1000}, some_memory, page), succeeds);
  EXPECT_EQ(group->unset_container(), succeeds);
  EXPECT_FALSE(machine.claimed(first_group));
  EXPECT_TRUE(machine.claimed(second_group));
  EXPECT_EQ(container.unmap_all(), answers(0x1000));
}

TEST_F(Leaving, WorksAlthoughTheAddressSpaceIsNotKnown) {
  GroupFile second = program.open_group(second_group);
  ASSERT_EQ(second.set_container(container), succeeds);
  machine.fail_next("address_space", EIO);
  EXPECT_EQ(second.unset_container(), succeeds);
  EXPECT_EQ(container.info().usable.size(), 2U) << "what was usable with both still is";
}

TEST_F(Leaving, AllowsAnotherContainer) {
  ContainerFile other = program.open_container();
  ASSERT_EQ(group->unset_container(), succeeds);
  EXPECT_EQ(group->set_container(other), succeeds);
  EXPECT_EQ(other.set_iommu(), succeeds);
}

/// A group in a container with a mapping; what happens to them depends on what is closed first.
class Closing : public ContainerTest {
protected:
  void SetUp() override {
    ContainerTest::SetUp();
    ASSERT_EQ(container.map(Iova{0x1000}, some_memory, page), succeeds);
    machine.log.clear();
  }
};

TEST_F(Closing, TheContainersFileFirstKeepsItsAddressSpaceForItsGroups) {
  container.close();
  EXPECT_EQ(machine.mapped().size(), 1U);
  EXPECT_EQ(group->status(), answers(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET));
  EXPECT_TRUE(group->device(first_device)) << "a device can still be opened";
  machine.close_at_client(first_device);
  group->close();
  EXPECT_EQ(machine.log, (Log{"end"}));
  EXPECT_EQ(machine.backends_alive(), 0U);
}

TEST_F(Closing, TheGroupFirstEndsTheAddressSpace) {
  group->close();
  EXPECT_EQ(machine.backends_alive(), 0U);
  EXPECT_FALSE(machine.claimed(first_group));
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EINVAL));
  container.close();
}

TEST_F(Closing, AGroupWaitsForItsDeviceAndThenLeavesBeforeTheNextCall) {
  const Fd device = group->device(first_device);
  EXPECT_EQ(group->group().try_leave_when_unused(), Departure::device_open);
  EXPECT_EQ(container.unmap_all(), answers(0x1000)) << "the device keeps it";
  machine.close_at_client(first_device);
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EINVAL)) << "no IOMMU any more";
  EXPECT_EQ(machine.backends_alive(), 0U);
  EXPECT_EQ(group->group().try_leave_when_unused(), Departure::left);
}

TEST_F(Closing, AGroupWhoseDevicesAreClosedLeavesAtOnce) {
  EXPECT_EQ(group->group().try_leave_when_unused(), Departure::left);
  EXPECT_EQ(machine.backends_alive(), 0U);
}

TEST_F(Closing, OneOfTwoGroupsKeepsTheAddressSpace) {
  GroupFile second = program.open_group(second_group);
  ASSERT_EQ(second.set_container(container), succeeds);
  group->close();
  EXPECT_FALSE(machine.claimed(first_group));
  EXPECT_EQ(machine.mapped().size(), 1U);
  second.close();
  EXPECT_EQ(machine.backends_alive(), 0U);
}

TEST_F(Closing, TheContainersFileFirstAndThenTheGroupsOneByOne) {
  GroupFile second = program.open_group(second_group);
  ASSERT_EQ(second.set_container(container), succeeds);
  container.close();
  second.close();
  EXPECT_EQ(machine.mapped().size(), 1U);
  group->close();
  EXPECT_EQ(machine.backends_alive(), 0U);
}

TEST_F(Closing, TheGroupFreesItForTheNextProgram) {
  group->close();
  ContainerFile next = program.open_container();
  const GroupFile again = program.open_group_in(first_group, next);
  EXPECT_EQ(next.map(Iova{0x1000}, some_memory, page), succeeds);
}

TEST_F(MachineTest, ClosingAContainerThatWasNeverUsedDoesNothing) {
  program.open_container().close();
  EXPECT_TRUE(machine.log.empty());
}

TEST_F(MachineTest, ClosingAGroupThatWasNeverUsedDoesNothing) {
  program.open_group(first_group).close();
  EXPECT_TRUE(machine.log.empty());
}

TEST_F(Joining, TellsTheBackendOfDevicesThatCameOrWent) {
  GroupFile pair = program.open_group(pair_group);
  EXPECT_TRUE(pair.group().try_follow_topology());
  EXPECT_EQ(machine.log, Log{}) << "it is in no container";
  ASSERT_EQ(pair.set_container(container), succeeds);
  machine.log.clear();
  machine.sysfs.remove_cdev(pair_device_a, 2);
  EXPECT_TRUE(pair.group().try_follow_topology());
  EXPECT_EQ(machine.log, (Log{"follow 6: 1 device(s)"}));
  machine.sysfs.remove_cdev(pair_device_b, 3);
  EXPECT_TRUE(pair.group().try_follow_topology());
  EXPECT_EQ(machine.log.size(), 1U) << "whoever holds the group closes it";
}

} // namespace
} // namespace vfio_shim::test
