// SPDX-License-Identifier: MIT
// The device fd is the real thing: regions, configuration space, interrupts and reset.

#include <array>
#include <cerrno>

#include <linux/pci_regs.h>

#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

LEGACY_SUITE(DeviceFd, AttachedSuite);

TEST_P(DeviceFd, DescribesAPciDevice) {
  const vfio_device_info info = client().device.info();
  EXPECT_TRUE(info.flags & VFIO_DEVICE_FLAGS_PCI);
  EXPECT_GE(info.num_regions, unsigned{VFIO_PCI_NUM_REGIONS});
  EXPECT_GE(info.num_irqs, unsigned{VFIO_PCI_NUM_IRQS});
}

TEST_P(DeviceFd, DescribesItsRegions) {
  const vfio_region_info bar = client().device.region(VFIO_PCI_BAR0_REGION_INDEX);
  EXPECT_EQ(bar.size, (1_MiB).count);
  EXPECT_EQ(bar.flags, unsigned{VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
                                VFIO_REGION_INFO_FLAG_MMAP});
  EXPECT_EQ(client().device.region(VFIO_PCI_BAR1_REGION_INDEX).size, 0u) << "it has one BAR";
  EXPECT_GE(client().device.region(VFIO_PCI_CONFIG_REGION_INDEX).size, 256u);
}

TEST_P(DeviceFd, GivesItsConfigurationSpace) {
  EXPECT_EQ(client().device.config16(PCI_VENDOR_ID), 0x1234);
  EXPECT_EQ(client().device.config16(PCI_DEVICE_ID), 0x11e8);
  client().device.enable_memory_and_dma();
  const auto both = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
  EXPECT_EQ(client().device.config16(PCI_COMMAND) & both, both);
}

TEST_P(DeviceFd, ItsRegistersCanBeMapped) {
  EXPECT_EQ(edu().id() & 0xff, 0xedu);
  EXPECT_EQ(edu().liveness(0x12345678), ~0x12345678u);
}

TEST_P(DeviceFd, ItsRegistersCanBeRead) {
  const Edu &mapped = edu();
  std::uint32_t id = 0;
  EXPECT_EQ(client().device.read_region(VFIO_PCI_BAR0_REGION_INDEX, 0,
                                        std::as_writable_bytes(std::span{&id, 1})),
            answers(4));
  EXPECT_EQ(id, mapped.id());
}

TEST_P(DeviceFd, MsiArrivesAtAnEventfd) {
  const InterruptCounter interrupts;
  const Edu &device = edu();
  ASSERT_GE(client().device.irq(VFIO_PCI_MSI_IRQ_INDEX).count, 1u);
  ASSERT_EQ(client().device.signal_interrupts(VFIO_PCI_MSI_IRQ_INDEX, interrupts), succeeds);
  EXPECT_EQ(interrupts.wait(50ms), 0u) << "none yet";
  for (std::uint32_t bits : {1u, 2u}) {
    device.raise_interrupt(bits);
    EXPECT_EQ(interrupts.wait(2s), 1u);
    EXPECT_EQ(device.interrupt_status(), bits);
    device.acknowledge_interrupt(bits);
    EXPECT_EQ(device.interrupt_status(), 0u);
  }
  EXPECT_EQ(client().device.disable_interrupts(VFIO_PCI_MSI_IRQ_INDEX), succeeds);
  device.raise_interrupt(4);
  EXPECT_EQ(interrupts.wait(50ms), 0u) << "turned off";
  device.acknowledge_interrupt(4);
}

TEST_P(DeviceFd, LegacyInterruptsArriveAtAnEventfd) {
  const InterruptCounter interrupts;
  const Edu &device = edu();
  ASSERT_EQ(client().device.irq(VFIO_PCI_INTX_IRQ_INDEX).count, 1u);
  ASSERT_EQ(client().device.signal_interrupts(VFIO_PCI_INTX_IRQ_INDEX, interrupts), succeeds);
  device.raise_interrupt(1);
  EXPECT_EQ(interrupts.wait(2s), 1u);
  device.acknowledge_interrupt(1);
}

TEST_P(DeviceFd, ResetAnswersAsAnnounced) {
  for (const PciDevice &each : topology::vfio_devices()) {
    if (each.shares_group() || each.address == topology::lone_edus(1)[0].address)
      continue;
    SCOPED_TRACE(each.address);
    const Client other{provider(), each};
    const bool announced = other.device.info().flags & VFIO_DEVICE_FLAGS_RESET;
    EXPECT_EQ(other.device.reset(), announced ? succeeds : fails(EINVAL));
  }
}

TEST_P(DeviceFd, DmaWorksAfterAReset) {
  const bool announced = client().device.info().flags & VFIO_DEVICE_FLAGS_RESET;
  EXPECT_EQ(client().device.reset(), announced ? succeeds : fails(EINVAL));
  expect_dma_works(container(), edu());
}

TEST_P(DeviceFd, UnknownCallsAreNotSupported) {
  EXPECT_EQ(client().device.fd().ioctl(_IO('x', 1)), fails(ENOTTY));
  EXPECT_EQ(client().device.fd().ioctl(VFIO_GET_API_VERSION), fails(ENOTTY));
}

TEST_P(DeviceFd, HighIovasReachTheDevice) {
  // The first edu of the test machine addresses all that the IOMMU translates.
  const Iova last = container().info().iova_ranges.back().last;
  for (const Iova iova :
       {Iova{0}, Iova{0xfee00000} - page * 2, Iova{0x1'0000'0000}, last + 1_B - page * 2})
    expect_dma_works(container(), edu(), iova);
}

} // namespace
