// SPDX-License-Identifier: MIT
// A device is unbound from its driver while a program has its group.

#include <cerrno>
#include <chrono>

#include <linux/vfio.h>

#include "suite.h"
#include "unbinding.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

class UnbindSuite : public LegacySuite {
protected:
  /// Nobody is in the way of the next test: the device's nodes are there again, those of the next
  /// test's provider too, and work.
  void expect_it_works_again(const PciDevice &device) const {
    for (const Provider &each : providers_under_test())
      EXPECT_TRUE(appears(each, device)) << each.name;
    expect_a_client_works(provider(), device);
  }
};

LEGACY_SUITE(Unbind, UnbindSuite);

TEST_P(Unbind, WaitsForNoGroupThatIsMerelyInAContainer) {
  const PciDevice device = topology::lone_edus(1)[0];
  {
    const Container container{provider()};
    const Group group{provider(), device.group};
    ASSERT_EQ(group.set_container(container), succeeds);
    ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
    ASSERT_EQ(container.map(some_iova, Memory{page}), succeeds);
    const Unbinding unbinding{device};
    EXPECT_TRUE(unbinding.ends_within(5s));
  }
  expect_it_works_again(device);
}

TEST_P(Unbind, LeavesTheOtherDevicesOfAGroup) {
  const auto pair = topology::edus_sharing_a_group();
  for (const auto &[leaving, staying] :
       {std::pair{pair[0], pair[1]}, std::pair{pair[1], pair[0]}}) {
    const Container container{provider()};
    const Group group{provider(), leaving.group};
    ASSERT_EQ(group.set_container(container), succeeds);
    ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
    const Memory memory{page};
    ASSERT_EQ(container.map(some_iova, memory), succeeds);
    {
      const Unbinding unbinding{leaving};
      ASSERT_TRUE(unbinding.ends_within(5s)) << leaving.address;
      EXPECT_EQ(group.try_device(leaving.address), fails(ENODEV));
      const Device device = group.device(staying.address);
      expect_dma_works(container, Edu{device}, some_iova + 1_MiB);
    }
    const Device device = group.device(leaving.address);
    expect_dma_works(container, Edu{device}, some_iova + 1_MiB);
    EXPECT_EQ(container.unmap_all(), unmaps(page)) << "what was mapped before";
  }
}

TEST_P(Unbind, AsksForAnOpenDeviceAndWaitsForIt) {
  const PciDevice which = topology::lone_edus(1)[0];
  {
    Client client{provider(), which};
    const InterruptCounter asked;
    ASSERT_EQ(client.device.signal_interrupts(VFIO_PCI_REQ_IRQ_INDEX, asked), succeeds);
    const Unbinding unbinding{which};
    EXPECT_GT(asked.wait(5s), 0u);
    EXPECT_FALSE(unbinding.ends_within(300ms));
    client.device.close();
    EXPECT_TRUE(unbinding.ends_within(5s));
  }
  expect_it_works_again(which);
}

} // namespace
