// SPDX-License-Identifier: MIT
// The reset of a bus, which the kernel grants to whoever has every group on it.

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <vector>

#include <linux/vfio.h>

#include "suite.h"

namespace {

using namespace legacy;

/// What the info begins with.
struct Header {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t count = 0;
};
constexpr std::uint32_t header_size = sizeof(Header);
static_assert(header_size == offsetof(vfio_pci_hot_reset_info, devices));

/// Two edus behind one bridge, in one group.
class HotResetSuite : public LegacySuite {
protected:
  void SetUp() override {
    ASSERT_EQ(group_.set_container(container_), succeeds);
    ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
    device_.emplace(group_.device(pair_[0].address));
    device_->enable_memory_and_dma();
  }

  Answer ask_info(const EdgeBuffer &buffer, std::uint32_t argsz) const {
    buffer.put(Header{.argsz = argsz, .flags = ~0u});
    return device_->fd().ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, buffer.data());
  }

  Answer reset(const std::vector<int> &groups, std::uint32_t flags = 0) const {
    std::vector<std::uint32_t> words{
        static_cast<std::uint32_t>((3 + groups.size()) * sizeof(std::uint32_t)), flags,
        static_cast<std::uint32_t>(groups.size())};
    words.insert(words.end(), groups.begin(), groups.end());
    return device_->fd().ioctl(VFIO_DEVICE_PCI_HOT_RESET, words.data());
  }

  const std::vector<PciDevice> pair_ = topology::edus_sharing_a_group();
  Container container_{provider()};
  Group group_{provider(), pair_[0].group};
  std::optional<Device> device_;
};

LEGACY_SUITE(HotResetOffer, HotResetSuite);
LEGACY_SUITE_OF_THOSE_WITH(Behaviour::HotReset, HotReset, HotResetSuite);

TEST_P(HotResetOffer, TheOwnerOfAllGroupsResetsTheBus) {
  EXPECT_EQ(reset({group_.fd().number()}), expected(Behaviour::HotReset, succeeds));
}

TEST_P(HotReset, TellsTheDevicesOnTheBusAndTheirGroups) {
  const EdgeBuffer buffer{4096_B};
  ASSERT_EQ(ask_info(buffer, 4096), succeeds);
  struct Answered {
    Header header;
    vfio_pci_dependent_device devices[2];
  };
  const auto answered = buffer.get<Answered>();
  EXPECT_EQ(answered.header.argsz, 4096u);
  EXPECT_EQ(answered.header.flags, 0u);
  ASSERT_EQ(answered.header.count, 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto &device = answered.devices[i];
    char address[16];
    std::snprintf(address, sizeof(address), "%04x:%02x:%02x.%x", device.segment, device.bus,
                  device.devfn >> 3, device.devfn & 7);
    EXPECT_EQ(address, pair_[i].address);
    EXPECT_EQ(device.group_id, static_cast<std::uint32_t>(pair_[i].group));
  }
}

TEST_P(HotReset, InfoChecksItsArgument) {
  const EdgeBuffer buffer{Bytes{header_size + 2 * sizeof(vfio_pci_dependent_device)}};
  EXPECT_EQ(ask_info(buffer, header_size - 1), fails(EINVAL));
  for (const std::uint32_t too_short : {12u, 19u, 20u, 27u}) {
    EXPECT_EQ(ask_info(buffer, too_short), fails(ENOSPC)) << too_short;
    EXPECT_EQ(buffer.get<Header>().count, 2u) << too_short;
    EXPECT_EQ(buffer.get<Header>().flags, 0u) << too_short;
  }
  EXPECT_EQ(ask_info(buffer, 28), succeeds);
  EXPECT_EQ(ask_info(EdgeBuffer{Bytes{header_size}}, 28), fails(EFAULT));
  EXPECT_EQ(ask_info(EdgeBuffer{8_B}, 28), fails(EFAULT));
  EXPECT_EQ(device_->fd().ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO), fails(EFAULT));
}

TEST_P(HotReset, ADeviceOnTheRootBusHasNone) {
  const Client alone{provider(), topology::lone_edus(1)[0]};
  Header header{.argsz = header_size};
  EXPECT_EQ(alone.device.fd().ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &header), fails(ENODEV));
}

TEST_P(HotReset, LeavesTheDevicesWorking) {
  const Device other = group_.device(pair_[1].address);
  ASSERT_EQ(reset({group_.fd().number()}), succeeds);
  for (const Device *device : std::initializer_list<const Device *>{&*device_, &other}) {
    device->enable_memory_and_dma();
    expect_dma_works(container_, Edu{*device});
  }
}

TEST_P(HotReset, NeedsTheGroupsThatAreAffectedAndNoOthers) {
  const Group foreign{provider(), topology::lone_edus(1)[0].group};
  const int own = group_.fd().number();
  EXPECT_EQ(reset({foreign.fd().number()}), fails(EINVAL));
  EXPECT_EQ(reset({own, own, own}), fails(EINVAL)) << "more than there are devices";
  EXPECT_EQ(reset({own, foreign.fd().number()}), succeeds) << "one more does no harm";
  EXPECT_EQ(reset({-1}), fails(EBADF));
  EXPECT_EQ(reset({container_.fd().number()}), fails(EINVAL));
  EXPECT_EQ(reset({device_->fd().number()}), fails(EINVAL));
  EXPECT_EQ(reset({own}, 1), fails(EINVAL)) << "unknown flag";
  EXPECT_EQ(device_->fd().ioctl(VFIO_DEVICE_PCI_HOT_RESET), fails(EFAULT));
}

} // namespace
