// SPDX-License-Identifier: MIT
/// @file
/// VFIO_UPDATE_VADDR: mappings whose addresses in the client become invalid, and change.

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr Bytes page{0x1000};
constexpr Iova iova{0x10000};
constexpr ClientAddr elsewhere{0x7f1100000000};

class UpdateVaddr : public ContainerTest {
protected:
  Answer invalidate(Iova first, Bytes size, std::uint32_t more_flags = 0) {
    return container.unmap(first, size, VFIO_DMA_UNMAP_FLAG_VADDR | more_flags);
  }
  Answer update(Iova first, Bytes size, ClientAddr vaddr = elsewhere) {
    return container.map(first, vaddr, size, VFIO_DMA_MAP_FLAG_VADDR);
  }
  Answer map(Iova first, Bytes size) { return container.map(first, some_memory, size); }
};

TEST_F(UpdateVaddr, IsOfferedOnceAnIommuIsSet) {
  EXPECT_EQ(container.check_extension(VFIO_UPDATE_VADDR), answers(1));
  ContainerFile fresh = program.open_container();
  EXPECT_EQ(fresh.check_extension(VFIO_UPDATE_VADDR), answers(0));
}

TEST_F(UpdateVaddr, TellsTheBackendNothing) {
  ASSERT_EQ(map(iova, page), succeeds);
  machine.log.clear();
  EXPECT_EQ(invalidate(iova, page), answers(0x1000));
  EXPECT_EQ(update(iova, page), succeeds);
  EXPECT_TRUE(machine.log.empty()) << "the device goes on";
}

TEST_F(UpdateVaddr, NeedsAnInvalidVaddr) {
  ASSERT_EQ(map(iova, page), succeeds);
  EXPECT_EQ(update(iova, page), fails(EINVAL));
  ASSERT_EQ(invalidate(iova, page), answers(0x1000));
  EXPECT_EQ(update(iova, page), succeeds);
  EXPECT_EQ(update(iova, page), fails(EINVAL)) << "it is valid again";
}

TEST_F(UpdateVaddr, NeedsAWholeMapping) {
  ASSERT_EQ(map(iova, Bytes{0x3000}), succeeds);
  ASSERT_EQ(map(iova + Bytes{0x3000}, page), succeeds);
  ASSERT_EQ(invalidate(iova, Bytes{0x4000}), answers(0x4000));
  EXPECT_EQ(update(iova, page), fails(EINVAL));
  EXPECT_EQ(update(iova + page, Bytes{0x2000}), fails(EINVAL));
  EXPECT_EQ(update(iova, Bytes{0x4000}), fails(EINVAL)) << "two of them";
  EXPECT_EQ(update(iova + Bytes{0x4000}, page), fails(ENOENT));
  EXPECT_EQ(update(Iova{0}, iova - Iova{0}), fails(ENOENT));
  EXPECT_EQ(update(iova, Bytes{0x3000}), succeeds);
}

TEST_F(UpdateVaddr, ChecksItsNumbersLikeAnyMap) {
  ASSERT_EQ(map(iova, page), succeeds);
  ASSERT_EQ(invalidate(iova, page), answers(0x1000));
  EXPECT_EQ(update(iova, Bytes{0}), fails(EINVAL));
  EXPECT_EQ(update(iova, page, ClientAddr{UINT64_MAX - 0x7ff}), fails(EOVERFLOW));
  EXPECT_EQ(update(iova, page, ClientAddr{0x800}), fails(EINVAL));
  EXPECT_EQ(container.map(iova, elsewhere, page, VFIO_DMA_MAP_FLAG_VADDR | read_write),
            fails(EINVAL));
}

TEST_F(UpdateVaddr, InvalidatesAllOrNothing) {
  ASSERT_EQ(map(iova, page), succeeds);
  ASSERT_EQ(map(iova + page, page), succeeds);
  ASSERT_EQ(invalidate(iova + page, page), answers(0x1000));
  EXPECT_EQ(invalidate(iova, Bytes{0x2000}), fails(EINVAL));
  EXPECT_EQ(invalidate(iova, page), answers(0x1000)) << "it was left alone";
}

TEST_F(UpdateVaddr, InvalidatesEverythingAtOnce) {
  ASSERT_EQ(map(iova, page), succeeds);
  ASSERT_EQ(map(iova + Bytes{0x5000}, page), succeeds);
  EXPECT_EQ(invalidate(iova, page, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL)) << "with a range";
  EXPECT_EQ(invalidate(Iova{0}, Bytes{0}, VFIO_DMA_UNMAP_FLAG_ALL), answers(0x2000));
  EXPECT_EQ(machine.mapped().size(), 2U);
  EXPECT_EQ(container.unmap_all(), answers(0x2000));
}

TEST_F(UpdateVaddr, GoesWithNoBitmap) {
  const std::uint32_t flags = VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
  EXPECT_EQ(container.unmap(iova, page, flags), fails(EINVAL));
}

TEST_F(UpdateVaddr, LetsNoGroupJoinMeanwhile) {
  ASSERT_EQ(map(iova, page), succeeds);
  ASSERT_EQ(map(iova + page, page), succeeds);
  ASSERT_EQ(invalidate(iova, Bytes{0x2000}), answers(0x2000));
  GroupFile other = program.open_group(second_group);
  EXPECT_EQ(other.set_container(container), fails(EBUSY));
  EXPECT_FALSE(machine.claimed(second_group));
  ASSERT_EQ(update(iova, page), succeeds);
  EXPECT_EQ(other.set_container(container), fails(EBUSY)) << "one is still invalid";
  ASSERT_EQ(container.unmap(iova + page, page), answers(0x1000));
  EXPECT_EQ(other.set_container(container), succeeds);
}

TEST_F(MachineTest, UpdateVaddrOfVersion1TakesWholeMappings) {
  ContainerFile container = program.open_container();
  const GroupFile group = program.open_group_in(first_group, container, VFIO_TYPE1_IOMMU);
  ASSERT_EQ(container.map(iova, some_memory, Bytes{0x2000}), succeeds);
  EXPECT_EQ(container.unmap(iova + page, page, VFIO_DMA_UNMAP_FLAG_VADDR), answers(0));
  EXPECT_EQ(container.unmap(iova, page, VFIO_DMA_UNMAP_FLAG_VADDR), answers(0x2000));
}

} // namespace
} // namespace vfio_shim::test
