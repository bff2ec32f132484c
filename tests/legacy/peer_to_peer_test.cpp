// SPDX-License-Identifier: MIT
// DMA from one device into the memory of another: MAP_DMA of a mapped BAR.

#include <cerrno>
#include <cstring>
#include <optional>

#include <linux/pci_regs.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 23;
constexpr Iova bar_iova = some_iova + 64_MiB;

/// An edu in one container, and beside it an ivshmem whose BAR 2 is memory.
class PeerSuite : public AttachedSuite {
protected:
  void SetUp() override {
    AttachedSuite::SetUp();
    target_group_.emplace(provider(), target_.group);
    ASSERT_EQ(target_group_->set_container(container()), succeeds);
    device_.emplace(target_group_->device(target_.address));
    device_->enable_memory_and_dma();
    bar_.emplace(device_->map_region(VFIO_PCI_BAR2_REGION_INDEX));
    source_.fill({0}, page, seed);
    ASSERT_EQ(container().map(some_iova, source_), succeeds);
  }
  void TearDown() override {
    bar_.reset();
    device_.reset();
    target_group_.reset();
    AttachedSuite::TearDown();
  }

  void memory_decoding(bool on) {
    const std::uint16_t command = device_->config16(PCI_COMMAND);
    device_->set_config16(PCI_COMMAND,
                          static_cast<std::uint16_t>(on ? command | PCI_COMMAND_MEMORY
                                                        : command & ~PCI_COMMAND_MEMORY));
  }
  /// Whether edu's DMA write to `iova` arrives at `offset` of the BAR.
  bool dma_arrives(Iova iova, Bytes offset) {
    std::memset(bar_->data() + offset.count, 0, Edu::largest_transfer.count);
    copy_by_dma(edu(), some_iova, iova);
    return std::memcmp(bar_->data() + offset.count, source_.data(), Edu::largest_transfer.count) ==
           0;
  }

  const PciDevice target_ = topology::ivshmem();
  const Memory source_{page};
  std::optional<Group> target_group_;
  std::optional<Device> device_;
  std::optional<MappedRegion> bar_;
};

LEGACY_SUITE(PeerToPeerOffer, PeerSuite);
LEGACY_SUITE_OF_THOSE_WITH(Behaviour::PeerToPeer, PeerToPeer, PeerSuite);

TEST_P(PeerToPeerOffer, ABarMaps) {
  EXPECT_EQ(container().map(bar_iova, bar_->data(), bar_->size()),
            expected(Behaviour::PeerToPeer, succeeds));
}

TEST_P(PeerToPeer, DmaReachesTheOtherDevice) {
  ASSERT_EQ(container().map(bar_iova, bar_->data(), bar_->size()), succeeds);
  EXPECT_TRUE(dma_arrives(bar_iova, {0}));
  EXPECT_TRUE(dma_arrives(bar_iova + bar_->size() - page, bar_->size() - page));
  EXPECT_EQ(container().unmap(bar_iova, bar_->size()), unmaps(bar_->size()));
  EXPECT_FALSE(dma_arrives(bar_iova, {0})) << "after the unmap";
}

TEST_P(PeerToPeer, DmaReadsFromTheOtherDevice) {
  ASSERT_EQ(container().map(bar_iova, bar_->data(), bar_->size()), succeeds);
  std::memcpy(bar_->data() + page.count, source_.data(), page.count);
  source_.fill({0}, page, seed + 1);
  copy_by_dma(edu(), bar_iova + page, some_iova);
  EXPECT_TRUE(source_.holds({0}, Edu::largest_transfer, seed));
}

TEST_P(PeerToPeer, APartOfABarMaps) {
  ASSERT_EQ(container().map(bar_iova, bar_->data() + (1_MiB).count, page * 2), succeeds);
  EXPECT_TRUE(dma_arrives(bar_iova + page, 1_MiB + page));
  EXPECT_FALSE(dma_arrives(bar_iova + page * 2, 1_MiB + page * 2)) << "beyond it";
}

TEST_P(PeerToPeer, TheRulesAreTheSame) {
  ASSERT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  EXPECT_EQ(container().map(bar_iova, bar_->data(), page), fails(EEXIST));
  EXPECT_EQ(container().map(bar_iova + page, bar_->data() + 8, page), fails(EINVAL));
  EXPECT_EQ(container().map({0xfee00000}, bar_->data(), page), fails(EINVAL));
  ::munmap(bar_->data() + page.count, page.count);
  EXPECT_EQ(container().map(bar_iova + page, bar_->data(), page * 2), fails(EFAULT)) << "a hole";
  EXPECT_EQ(container().unmap_all(), unmaps(page * 2)) << "only the source and the first mapping";
}

TEST_P(PeerToPeer, WithoutMemoryDecodingABarIsAFault) {
  memory_decoding(false);
  EXPECT_EQ(container().map(bar_iova, bar_->data(), page), fails(EFAULT));
  memory_decoding(true);
  EXPECT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  EXPECT_TRUE(dma_arrives(bar_iova, {0}));
}

TEST_P(PeerToPeer, AMappingWorksAgainWhenDecodingIsBackOn) {
  ASSERT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  memory_decoding(false);
  memory_decoding(true);
  EXPECT_EQ(dma_arrives(bar_iova, {0}), !differs(Behaviour::BarMappingOutlivesDecoding));
  EXPECT_EQ(container().unmap(bar_iova, page), unmaps(page));
}

TEST_P(PeerToPeer, MappedAgainAfterDecodingWasOff) {
  ASSERT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  memory_decoding(false);
  EXPECT_EQ(container().unmap(bar_iova, page), unmaps(page)) << "while it is off";
  memory_decoding(true);
  ASSERT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  EXPECT_TRUE(dma_arrives(bar_iova, {0}));
}

TEST_P(PeerToPeer, TheMappingCountsNotTheDescriptor) {
  device_->close();
  ASSERT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  EXPECT_TRUE(dma_arrives(bar_iova, {0}));
}

TEST_P(PeerToPeer, TheOtherDeviceMayBeClosedFirst) {
  ASSERT_EQ(container().map(bar_iova, bar_->data(), page), succeeds);
  bar_.reset();
  device_->close();
  target_group_->close();
  EXPECT_EQ(container().unmap(bar_iova, page), unmaps(page));
  expect_dma_works(container(), edu(), some_iova + 1_MiB);
}

TEST_P(PeerToPeer, ABarIsNotLockedMemory) {
  run_in_child([&] {
    const rlimit limit{page.count, page.count};
    ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    ASSERT_EQ(::setresuid(65534, 65534, 65534), 0);
    EXPECT_EQ(container().map(bar_iova, bar_->data(), 1_MiB), succeeds);
  });
}

TEST_P(PeerToPeer, TheDeviceMayBeInAnotherContainer) {
  const Container other{provider()};
  bar_.reset();
  device_->close();
  ASSERT_EQ(target_group_->unset_container(), succeeds);
  ASSERT_EQ(target_group_->set_container(other), succeeds);
  ASSERT_EQ(other.set_iommu(IommuType::Type1v2), succeeds);
  device_.emplace(target_group_->device(target_.address));
  device_->enable_memory_and_dma();
  bar_.emplace(device_->map_region(VFIO_PCI_BAR2_REGION_INDEX));
  ASSERT_EQ(container().map(bar_iova, bar_->data(), bar_->size()), succeeds);
  EXPECT_TRUE(dma_arrives(bar_iova, {0}));
}

} // namespace
