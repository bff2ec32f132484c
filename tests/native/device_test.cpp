// SPDX-License-Identifier: MIT
// The device's file: what the client gets, and what becomes of the group when it closes it.

#include <chrono>

#include <fcntl.h>
#include <sys/stat.h>

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

using namespace std::chrono_literals;

class NativeDevice : public NativeContainerTest {
protected:
  OpenEdu open() { return OpenEdu{group->device(edus[0].address)}; }

  legacy::Memory memory{legacy::page * 2};
};

TEST_F(NativeDevice, IsTheRealCdev) {
  OpenEdu device = open();
  EXPECT_EQ(device.edu().id() & 0xff, 0xedU);
  EXPECT_EQ(device.edu().liveness(0x12345678), ~0x12345678U);
  EXPECT_NE(device.device().info().flags & VFIO_DEVICE_FLAGS_PCI, 0U);

  struct stat opened {};
  struct stat node {};
  const auto found = topology::find(group_of(edus[0]));
  ASSERT_TRUE(found);
  ASSERT_EQ(::fstat(device.device().fd().number(), &opened), 0);
  ASSERT_EQ(::stat(found->devices.front().cdev.c_str(), &node), 0);
  EXPECT_EQ(opened.st_rdev, node.st_rdev);
  EXPECT_EQ(::fcntl(device.device().fd().number(), F_GETFD), FD_CLOEXEC);
}

TEST_F(NativeDevice, Interrupts) {
  OpenEdu device = open();
  const legacy::InterruptCounter counter;
  ASSERT_EQ(device.device().signal_interrupts(VFIO_PCI_MSI_IRQ_INDEX, counter).error(), 0);
  device.edu().raise_interrupt(1);
  EXPECT_EQ(counter.wait(2s), 1U);
  device.edu().acknowledge_interrupt(1);
}

TEST_F(NativeDevice, SeesMappingsFromBeforeItWasOpened) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const OpenEdu device = open();
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
}

TEST_F(NativeDevice, SeesMappingsFromAfterItWasOpened) {
  const OpenEdu device = open();
  ASSERT_EQ(map(some_iova, memory), succeeds);
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
}

TEST_F(NativeDevice, SeesItsMappingsAgainAfterItWasClosedAndOpened) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  for (int round = 0; round < 3; ++round) {
    const OpenEdu device = open();
    EXPECT_TRUE(dma_works(device.edu(), memory, some_iova)) << "round " << round;
  }
}

TEST_F(NativeDevice, SeesMappingsFromWhileItWasClosed) {
  { const OpenEdu device = open(); }
  ASSERT_EQ(map(some_iova, memory), succeeds) << "the group has a new anchor";
  const OpenEdu device = open();
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
}

TEST_F(NativeDevice, DoesNotSeeWhatWasUnmappedWhileItWasClosed) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  { const OpenEdu device = open(); }
  ASSERT_EQ(container.unmap(some_iova, size_of(memory)), answers(0x2000));
  const OpenEdu device = open();
  EXPECT_FALSE(device_reaches(device.edu(), memory, some_iova));
}

TEST_F(NativeDevice, KeepsItsGroupOwnedWhileItIsClosed) {
  { const OpenEdu device = open(); }
  ASSERT_EQ(map(some_iova, memory), succeeds);
  ContainerFile thief = program.open_container();
  GroupFile same = program.open_group(group_of(edus[0]));
  EXPECT_EQ(same.set_container(thief), fails(EPERM));
}

TEST_F(NativeDevice, StaysUsableWhenItsMemoryWasUnmappedByTheProgramWhileItWasClosed) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  { const OpenEdu device = open(); }
  const legacy::Memory fresh{legacy::page * 2}; // Before the release: not at the same address.
  memory.release(); // Under type1 its pages stay pinned all the time, so that this does not matter.
  EXPECT_EQ(map(other_iova, fresh), succeeds);
  const OpenEdu device = open();
  EXPECT_TRUE(dma_works(device.edu(), fresh, other_iova));
}

TEST_F(NativeDevice, LeavesItsMappingsPinnedWhenItIsClosed) {
  const std::uint64_t before = pinned_bytes();
  ASSERT_EQ(map(some_iova, memory), succeeds);
  { const OpenEdu device = open(); }
  EXPECT_EQ(pinned_bytes(), before + memory.size().count);
  ASSERT_EQ(container.unmap_all(), answers(0x2000));
  EXPECT_EQ(pinned_bytes(), before);
}

TEST_F(NativeDevice, IsOpenUntilItIsClosed) {
  EXPECT_FALSE(group->group().device_open());
  OpenEdu device = open();
  EXPECT_TRUE(group->group().device_open());
  EXPECT_EQ(group->unset_container(), fails(EBUSY));
  device.device().close();
  EXPECT_TRUE(group->group().device_open()) << "its registers are still mapped";
}

TEST_F(NativeDevice, IsClosedWithItsLastMapping) {
  { const OpenEdu device = open(); }
  EXPECT_FALSE(group->group().device_open());
  EXPECT_EQ(group->unset_container(), succeeds);
}

TEST_F(NativeDevice, CanBeOpenTwice) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  auto first = std::make_optional<OpenEdu>(group->device(edus[0].address));
  OpenEdu second = open();
  EXPECT_NE(first->device().fd().number(), second.device().fd().number());
  first.reset();
  EXPECT_TRUE(dma_works(second.edu(), memory, some_iova));
  EXPECT_EQ(group->unset_container(), fails(EBUSY));
}

TEST_F(NativeDevice, CanBeOpenedAgainWhileOnlyADuplicateIsOpen) {
  Fd given = group->device(edus[0].address);
  ASSERT_TRUE(given);
  const Fd duplicate{::fcntl(given.get(), F_DUPFD_CLOEXEC, 0)};
  given.reset();
  EXPECT_TRUE(group->device(edus[0].address)) << "type1 opens a device as often as it is asked to";
}

TEST_F(NativeDevice, OfAnotherGroupIsNotThere) {
  EXPECT_EQ(group->device_number(edus[1].address), fails(ENODEV));
}

} // namespace
} // namespace vfio_shim::test
