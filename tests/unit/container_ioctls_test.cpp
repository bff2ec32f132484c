// SPDX-License-Identifier: MIT
/// @file
/// What a container answers itself, before and after VFIO_SET_IOMMU: drivers/vfio/container.c.

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

class FreshContainer : public MachineTest {
protected:
  ContainerFile container = program.open_container();
};

TEST_F(FreshContainer, HasApiVersion0) {
  EXPECT_EQ(container.call(VFIO_GET_API_VERSION), answers(0));
  EXPECT_EQ(container.call(VFIO_GET_API_VERSION, UINT64_MAX), answers(0));
}

TEST_F(FreshContainer, HasType1sExtensions) {
  EXPECT_EQ(container.check_extension(VFIO_TYPE1_IOMMU), answers(1));
  EXPECT_EQ(container.check_extension(VFIO_TYPE1v2_IOMMU), answers(1));
  EXPECT_EQ(container.check_extension(VFIO_UNMAP_ALL), answers(1));
}

TEST_F(FreshContainer, HasNoOtherExtensions) {
  EXPECT_EQ(container.check_extension(0), answers(0));
  EXPECT_EQ(container.check_extension(VFIO_SPAPR_TCE_IOMMU), answers(0));
  EXPECT_EQ(container.check_extension(VFIO_TYPE1_NESTING_IOMMU), answers(0));
  EXPECT_EQ(container.check_extension(VFIO_NOIOMMU_IOMMU), answers(0));
  EXPECT_EQ(container.check_extension(UINT64_MAX), answers(0));
  EXPECT_EQ(container.check_extension((1ULL << 32) | VFIO_TYPE1_IOMMU), answers(0))
      << "not cut off";
}

TEST_F(FreshContainer, EnforcesNoCoherencyYet) {
  EXPECT_EQ(container.check_extension(VFIO_DMA_CC_IOMMU), answers(0));
}

TEST_F(FreshContainer, GetsNoIommuWithoutAGroup) {
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), fails(EINVAL));
  EXPECT_EQ(container.set_iommu(77), fails(EINVAL)) << "the type is not looked at";
}

TEST_F(FreshContainer, RefusesEverythingElse) {
  const auto map = map_request(Iova{0x1000}, some_memory, Bytes{0x1000});
  EXPECT_EQ(container.call(VFIO_IOMMU_MAP_DMA, &map), fails(EINVAL));
  EXPECT_EQ(container.call(VFIO_IOMMU_MAP_DMA, nullptr), fails(EINVAL)) << "not EFAULT";
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EINVAL));
  EXPECT_EQ(container.call(VFIO_IOMMU_UNMAP_DMA, nullptr), fails(EINVAL));
  EXPECT_EQ(container.call(VFIO_GROUP_GET_STATUS, nullptr), fails(EINVAL));
  EXPECT_EQ(container.call(0, nullptr), fails(EINVAL));
}

TEST_F(FreshContainer, MakesNoBackend) {
  EXPECT_EQ(machine.backends_alive(), 0U);
}

class SetIommu : public MachineTest {
protected:
  void SetUp() override { ASSERT_EQ(group.set_container(container), succeeds); }

  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(first_group);
};

TEST_F(SetIommu, TakesBothVersionsOfType1) {
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1_IOMMU), succeeds);

  ContainerFile other = program.open_container();
  GroupFile other_group = program.open_group(second_group);
  ASSERT_EQ(other_group.set_container(other), succeeds);
  EXPECT_EQ(other.set_iommu(VFIO_TYPE1v2_IOMMU), succeeds);
}

TEST_F(SetIommu, WorksOnce) {
  ASSERT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), succeeds);
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), fails(EINVAL));
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1_IOMMU), fails(EINVAL));
  EXPECT_EQ(container.set_iommu(77), fails(EINVAL));
}

TEST_F(SetIommu, KnowsNoOtherType) {
  for (const unsigned long type :
       {0UL, 2UL, 4UL, 5UL, 6UL, 7UL, 8UL, 10UL, (1UL << 32) | VFIO_TYPE1_IOMMU, ~0UL})
    EXPECT_EQ(container.set_iommu(type), fails(ENODEV)) << type;
}

TEST_F(SetIommu, TakesAnExtensionForABadType) {
  EXPECT_EQ(container.set_iommu(VFIO_UNMAP_ALL), fails(EINVAL));
}

TEST_F(SetIommu, WorksAfterARefusedType) {
  ASSERT_EQ(container.set_iommu(77), fails(ENODEV));
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), succeeds);
}

TEST_F(SetIommu, AttachesTheGroup) {
  ASSERT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), succeeds);
  EXPECT_EQ(machine.log, (std::vector<std::string>{"claim 1", "attach 1"}));
}

TEST_F(SetIommu, LeavesNothingSetIfAttachingFails) {
  machine.fail_next("attach_claimed", ENOMEM);
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), fails(ENOMEM));
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EINVAL)) << "still not set";
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1_IOMMU), succeeds) << "and can be tried again";
}

TEST_F(SetIommu, LeavesNothingSetIfTheAddressSpaceIsNotKnown) {
  machine.fail_next("address_space", EIO);
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), fails(EIO));
  EXPECT_EQ(container.set_iommu(VFIO_TYPE1v2_IOMMU), succeeds);
}

TEST_F(ContainerTest, DoesNotKnowOtherIoctls) {
  EXPECT_EQ(container.call(VFIO_GROUP_GET_STATUS, nullptr), fails(ENOTTY));
  EXPECT_EQ(container.call(VFIO_DEVICE_RESET), fails(ENOTTY));
  EXPECT_EQ(container.call(VFIO_IOMMU_ENABLE), fails(ENOTTY));
  EXPECT_EQ(container.call(0, nullptr), fails(ENOTTY));
  EXPECT_EQ(container.call(UINT32_MAX, nullptr), fails(ENOTTY)) << "not EFAULT";
}

TEST_F(ContainerTest, AnswersWhatItDidBefore) {
  EXPECT_EQ(container.call(VFIO_GET_API_VERSION), answers(0));
  EXPECT_EQ(container.check_extension(VFIO_TYPE1_IOMMU), answers(1));
  EXPECT_EQ(container.check_extension(VFIO_TYPE1v2_IOMMU), answers(1));
  EXPECT_EQ(container.check_extension(VFIO_UNMAP_ALL), answers(1));
  EXPECT_EQ(container.check_extension(VFIO_SPAPR_TCE_IOMMU), answers(0));
}

TEST_F(ContainerTest, SaysWhetherTheIommuEnforcesCoherency) {
  EXPECT_EQ(container.check_extension(VFIO_DMA_CC_IOMMU), answers(1));
  machine.coherent = false;
  GroupFile other = program.open_group(second_group);
  ASSERT_EQ(other.set_container(container), succeeds);
  EXPECT_EQ(container.check_extension(VFIO_DMA_CC_IOMMU), answers(0));
}

} // namespace
} // namespace vfio_shim::test
