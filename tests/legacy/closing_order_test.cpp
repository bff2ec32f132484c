// SPDX-License-Identifier: MIT
// Device, group and container closed in any order: what still works in between, and that the next
// client finds everything free at once.

#include <algorithm>
#include <array>
#include <cerrno>

#include "patience.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

enum class Part { Device, Group, Container };

const char *name(Part part) {
  return part == Part::Device ? "device" : part == Part::Group ? "group" : "container";
}

void close(Client &client, Part part) {
  switch (part) {
  case Part::Device:
    return client.device.close();
  case Part::Group:
    return client.group.close();
  case Part::Container:
    return client.container.close();
  }
}

LEGACY_SUITE(ClosingOrder, LegacySuite);

TEST_P(ClosingOrder, AnyOrderFreesEverythingAtOnce) {
  const PciDevice edu = topology::lone_edus(1)[0];
  std::array order{Part::Device, Part::Group, Part::Container};
  do {
    SCOPED_TRACE(testing::Message() << "closed " << name(order[0]) << ", " << name(order[1]) << ", "
                                    << name(order[2]));
    Client client{provider(), edu};
    const Memory memory{page};
    EXPECT_EQ(client.container.map(some_iova, memory), succeeds);
    for (const Part part : order)
      close(client, part);
    const Client next{provider(), edu};
    EXPECT_EQ(next.container.map(some_iova, memory), succeeds);
    EXPECT_EQ(next.container.unmap_all(), unmaps(page));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_P(ClosingOrder, TheGroupStaysBusyUntilItsDeviceIsClosed) {
  const PciDevice edu = topology::lone_edus(1)[0];
  Client client{provider(), edu};
  client.group.close();
  EXPECT_EQ(Group::try_open(provider(), edu.group),
            expected(Behaviour::OpenWhileADeviceIsOpen, fails(EBUSY)));
  client.device.close();
  EXPECT_EQ(Group::try_open(provider(), edu.group), succeeds);
}

TEST_P(ClosingOrder, TheDeviceAloneKeepsTheMappings) {
  Client client{provider(), topology::lone_edus(1)[0]};
  const Edu edu{client.device};
  const Memory memory{page * 2};
  memory.fill({0}, Edu::largest_transfer, 1);
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  client.container.close();
  client.group.close();
  copy_by_dma(edu, some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, 1));
}

TEST_P(ClosingOrder, TheContainerOutlivesItsDescriptor) {
  const PciDevice edu = topology::lone_edus(1)[0];
  Container container{provider()};
  const Group group{provider(), edu.group};
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
  container.close();
  EXPECT_EQ(group.status(), answers(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET));
  EXPECT_EQ(group.try_device(edu.address), succeeds);
  EXPECT_EQ(group.unset_container(), succeeds);
}

TEST_P(ClosingOrder, ClosingTheGroupLeavesTheContainer) {
  const PciDevice edu = topology::lone_edus(1)[0];
  const Container container{provider()};
  Group group{provider(), edu.group};
  const Memory memory{page};
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
  ASSERT_EQ(container.map(some_iova, memory), succeeds);
  group.close();
  if (differs(Behaviour::ContainerOutlivesItsGroups)) {
    EXPECT_EQ(container.unmap_all(), unmaps(page));
    return;
  }
  EXPECT_EQ(container.unmap_all(), expected(Behaviour::CallsAfterTheLastGroup, fails(EINVAL)))
      << "the last group takes the mappings along";
}

TEST_P(ClosingOrder, TheLastDeviceTakesItsClosedGroupOutAtOnce) {
  const PciDevice edu = topology::lone_edus(1)[0];
  Client client{provider(), edu};
  client.group.close();
  EXPECT_EQ(client.container.unmap_all(), unmaps({0})) << "the device keeps the group";
  client.device.close();
  if (differs(Behaviour::ContainerOutlivesItsGroups))
    return;
  const Answer no_iommu = expected(Behaviour::CallsAfterTheLastGroup, fails(EINVAL));
  if (differs(Behaviour::LastDeviceTakesItsGroupOutAtOnce)) {
    EXPECT_TRUE(within(5s, [&] { return client.container.unmap_all() == no_iommu; }));
    return;
  }
  EXPECT_EQ(client.container.unmap_all(), no_iommu) << "there is no IOMMU any more";
}

TEST_P(ClosingOrder, ADeviceThatIsClosedAndOpenedAgainKeepsTheMappings) {
  const PciDevice edu = topology::lone_edus(1)[0];
  Client client{provider(), edu};
  const Memory memory{page * 2};
  memory.fill({0}, Edu::largest_transfer, 1);
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  client.device.close();
  const Device again = client.group.device(edu.address);
  copy_by_dma(Edu{again}, some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, 1));
}

TEST_P(ClosingOrder, UnfinishedSetUpsLeaveNothingBusy) {
  const PciDevice edu = topology::lone_edus(1)[0];
  for (int i = 0; i < 3; ++i) {
    const Container container{provider()};
    const Group group{provider(), edu.group};
    if (i > 0) {
      EXPECT_EQ(group.set_container(container), succeeds);
    }
    if (i > 1) {
      EXPECT_EQ(container.set_iommu(IommuType::Type1), succeeds);
    }
  }
  const Client next{provider(), edu};
}

} // namespace
