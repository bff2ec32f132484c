// SPDX-License-Identifier: MIT
// Containers that are limited to a window of IOVAs, by the IOMMU that there is.

#include "backend/iommufd.hpp"

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr IovaRange window{Iova{0x100000}, Iova{0xfffffff}};
/// x86 delivers MSIs at 0xfee00000, to every device.
constexpr IovaRange cut_window{Iova{0xfe000000}, Iova{0xffffffff}};

class NativeWindow : public NativeContainerTest {
protected:
  explicit NativeWindow(IovaRange range = window) : NativeContainerTest(range) {}
};

TEST_F(NativeWindow, IsExactlyWhatIsUsable) {
  EXPECT_EQ(container.info().usable, (std::vector{window}));
  const legacy::Memory memory{legacy::page};
  EXPECT_EQ(map(window.first, memory), succeeds);
  EXPECT_EQ(map(Iova{window.last.value - 0xfff}, memory), succeeds);
  EXPECT_EQ(map(Iova{window.first.value - 0x1000}, memory), fails(EINVAL));
  EXPECT_EQ(map(Iova{window.last.value + 1}, memory), fails(EINVAL));
}

TEST_F(NativeWindow, LetsDmaThrough) {
  const legacy::Memory memory{legacy::page * 2};
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const OpenEdu device{group->device(edus[0].address)};
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
}

class NativeCutWindow : public NativeTest {
protected:
  NativeCutWindow() : NativeTest(cut_window) {}
};

TEST_F(NativeCutWindow, KeepsTheGroupOut) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(group_of(edus[0]));
  ASSERT_EQ(group.set_container(container), succeeds);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(container.set_iommu(), fails(EINVAL));
}

TEST_F(NativeCutWindow, IsRefusedByTheBackendNamingTheHole) {
  auto backend = IommufdBackend::create("/dev/iommu");
  ASSERT_EQ(answer_of(backend), succeeds);
  ASSERT_EQ(answer_of((*backend)->keep_usable(cut_window)), succeeds);
  ASSERT_EQ(answer_of((*backend)->claim(*topology::find(group_of(edus[0])))), succeeds);
  const auto attached = (*backend)->attach_claimed();
  ASSERT_EQ(answer_of(attached), fails(EINVAL));
  EXPECT_TRUE(attached.error().for_operator);
  EXPECT_EQ(attached.error().where, "the IOVA window [0xfe000000, 0xffffffff] has a hole: device " +
                                        edus[0].address + " cannot use [0xfee00000, 0xfeefffff]");
}

} // namespace
} // namespace vfio_shim::test
