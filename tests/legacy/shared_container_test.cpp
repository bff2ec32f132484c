// SPDX-License-Identifier: MIT
// Several groups in one container, several devices in one group, and groups that come and go.

#include <cerrno>

#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 7;

class SharingSuite : public LegacySuite {
protected:
  const std::vector<PciDevice> edus_ = topology::lone_edus(2);
  Container container_{provider()};
  Group first_{provider(), edus_[0].group};
  Group second_{provider(), edus_[1].group};
  const Memory memory_{page * 2};

  void SetUp() override {
    memory_.fill({0}, Edu::largest_transfer, seed);
    ASSERT_EQ(first_.set_container(container_), succeeds);
  }
  bool copied() const { return memory_.holds(page, Edu::largest_transfer, seed); }
};

LEGACY_SUITE(SharedContainer, SharingSuite);
LEGACY_SUITE(SharedGroup, LegacySuite);

TEST_P(SharedContainer, OneMappingServesTheDevicesOfAllGroups) {
  ASSERT_EQ(second_.set_container(container_), succeeds);
  ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
  const Device a = first_.device(edus_[0].address);
  const Device b = second_.device(edus_[1].address);
  ASSERT_EQ(container_.map(some_iova, memory_), succeeds);

  copy_by_dma(Edu{a}, some_iova, some_iova + page);
  EXPECT_TRUE(copied());
  memory_.fill(page, page, seed + 1);
  copy_by_dma(Edu{b}, some_iova, some_iova + page);
  EXPECT_TRUE(copied());
}

TEST_P(SharedContainer, AGroupThatJoinsLaterGetsTheMappings) {
  ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
  const Device a = first_.device(edus_[0].address);
  ASSERT_EQ(container_.map(some_iova, memory_), succeeds);
  ASSERT_EQ(second_.set_container(container_), succeeds);
  const Device b = second_.device(edus_[1].address);

  copy_by_dma(Edu{b}, some_iova, some_iova + page);
  EXPECT_TRUE(copied());
}

TEST_P(SharedContainer, TheMappingsStayUntilTheLastGroupLeaves) {
  ASSERT_EQ(second_.set_container(container_), succeeds);
  ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
  const Device b = second_.device(edus_[1].address);
  ASSERT_EQ(container_.map(some_iova, memory_), succeeds);
  ASSERT_EQ(first_.unset_container(), succeeds);
  first_.close();

  EXPECT_EQ(container_.map(some_iova, memory_), fails(EEXIST));
  copy_by_dma(Edu{b}, some_iova, some_iova + page);
  EXPECT_TRUE(copied());
}

TEST_P(SharedContainer, WithoutGroupsItIsAsNew) {
  ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
  ASSERT_EQ(container_.map(some_iova, memory_), succeeds);
  ASSERT_EQ(first_.unset_container(), succeeds);
  if (differs(Behaviour::ContainerOutlivesItsGroups)) {
    EXPECT_EQ(container_.unmap_all(), unmaps(memory_.size()));
    return;
  }
  const Answer no_iommu = expected(Behaviour::CallsAfterTheLastGroup, fails(EINVAL));
  EXPECT_EQ(container_.unmap_all(), no_iommu) << "its type is unset";
  EXPECT_EQ(container_.check_extension(VFIO_UPDATE_VADDR), answers(0)) << "its type is unset";
  EXPECT_EQ(container_.set_iommu(IommuType::Type1v2), no_iommu) << "it has no group";

  ASSERT_EQ(second_.set_container(container_), succeeds);
  ASSERT_EQ(container_.set_iommu(IommuType::Type1), succeeds) << "even of another type";
  EXPECT_EQ(container_.info().dma_available, differs(Behaviour::MappingLimit) ? ~0U : 65535U)
      << "the mappings are gone";
  EXPECT_EQ(container_.map(some_iova, memory_), succeeds);
}

TEST_P(SharedContainer, EachContainerHasItsOwnAddresses) {
  const Container other{provider()};
  ASSERT_EQ(second_.set_container(other), succeeds);
  ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
  ASSERT_EQ(other.set_iommu(IommuType::Type1v2), succeeds);
  const Device b = second_.device(edus_[1].address);
  ASSERT_EQ(container_.map(some_iova, memory_), succeeds);
  const Memory others{page * 2};
  others.fill({0}, Edu::largest_transfer, seed + 1);
  ASSERT_EQ(other.map(some_iova, others), succeeds);

  copy_by_dma(Edu{b}, some_iova, some_iova + page);
  EXPECT_TRUE(others.holds(page, Edu::largest_transfer, seed + 1));
  EXPECT_FALSE(copied());
}

TEST_P(SharedGroup, AllItsDevicesComeFromOneGroupFd) {
  const auto edus = topology::edus_sharing_a_group();
  const Container container{provider()};
  const Group group{provider(), edus[0].group};
  EXPECT_EQ(Group::try_open(provider(), edus[1].group), fails(EBUSY)) << "it is the same group";
  EXPECT_EQ(group.status(), answers(VFIO_GROUP_FLAGS_VIABLE));
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
  Device a = group.device(edus[0].address);
  const Device b = group.device(edus[1].address);

  expect_dma_works(container, Edu{a});
  a.close();
  expect_dma_works(container, Edu{b});
}

TEST_P(SharedGroup, ItsDevicesShareTheirMappings) {
  const auto edus = topology::edus_sharing_a_group();
  const Client client{provider(), edus[0]};
  const Device b = client.group.device(edus[1].address);
  const Memory memory{page * 2};
  memory.fill({0}, Edu::largest_transfer, seed);
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);

  copy_by_dma(Edu{b}, some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
}

TEST_P(SharedGroup, IsBusyWhileAnyOfItsDevicesIsOpen) {
  const auto edus = topology::edus_sharing_a_group();
  Client client{provider(), edus[0]};
  Device b = client.group.device(edus[1].address);
  client.device.close();
  EXPECT_EQ(client.group.unset_container(),
            expected(Behaviour::UnsetContainerWithADevice, fails(EBUSY)));
  b.close();
  EXPECT_EQ(client.group.unset_container(),
            expected(Behaviour::UnsetContainerAfterADevice, succeeds));
}

} // namespace
