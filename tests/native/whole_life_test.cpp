// SPDX-License-Identifier: MIT
// A program's whole life on libvfio_compat, in the order in which most programs go about it.

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

class WholeLife : public NativeTest, public testing::WithParamInterface<unsigned long> {};

INSTANTIATE_TEST_SUITE_P(, WholeLife, testing::Values(VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU),
                         [](const auto &info) {
                           return info.param == VFIO_TYPE1_IOMMU ? "Type1"s : "Type1v2"s;
                         });

TEST_P(WholeLife, MovesBytesBothWaysAndStopsAtTheUnmap) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(group_of(edus[0]));
  EXPECT_EQ(container.call(VFIO_GET_API_VERSION), answers(VFIO_API_VERSION));
  EXPECT_EQ(container.check_extension(GetParam()), answers(1));
  EXPECT_EQ(group.status(), answers(VFIO_GROUP_FLAGS_VIABLE));
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_EQ(group.status(), answers(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET));
  ASSERT_EQ(container.set_iommu(GetParam()), succeeds);

  const IommuInfo info = container.info();
  EXPECT_NE(info.head.iova_pgsizes & page.value, 0U);
  EXPECT_EQ(info.available, 65535U);
  EXPECT_FALSE(info.usable.empty());

  const legacy::Memory memory{legacy::page * 2};
  ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  auto device = std::make_optional<OpenEdu>(group.device(edus[0].address));
  EXPECT_TRUE(dma_works(device->edu(), memory, some_iova));

  ASSERT_EQ(container.unmap(some_iova, size_of(memory)), answers(0x2000));
  EXPECT_FALSE(device_reaches(device->edu(), memory, some_iova));

  EXPECT_EQ(group.unset_container(), fails(EBUSY));
  device.reset();
  EXPECT_EQ(group.unset_container(), succeeds);
}

TEST_P(WholeLife, CanBeLivedAgainByTheSameFiles) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(group_of(edus[0]));
  for (int life = 0; life < 3; ++life) {
    ASSERT_EQ(group.set_container(container), succeeds);
    ASSERT_EQ(container.set_iommu(GetParam()), succeeds);
    const legacy::Memory memory{legacy::page * 2};
    ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds)
        << "nothing is left of life " << life;
    {
      const OpenEdu device{group.device(edus[0].address)};
      EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
    }
    ASSERT_EQ(group.unset_container(), succeeds);
  }
}

} // namespace
} // namespace vfio_shim::test
