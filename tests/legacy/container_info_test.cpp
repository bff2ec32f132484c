// SPDX-License-Identifier: MIT
// VFIO_IOMMU_GET_INFO: the rules of argsz, and the capability chain.

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "suite.h"

namespace {

using namespace legacy;

constexpr Bytes smallest{offsetof(vfio_iommu_type1_info, iova_pgsizes) + sizeof(__u64)};
constexpr Bytes whole{sizeof(vfio_iommu_type1_info)};

vfio_iommu_type1_info info_request(Bytes argsz) {
  vfio_iommu_type1_info request{};
  request.argsz = static_cast<std::uint32_t>(argsz.count);
  return request;
}

class InfoSuite : public AttachedSuite {
protected:
  /// Asks with a buffer of exactly `argsz` bytes, of which `accessible` can be accessed.
  Answer ask(const EdgeBuffer &buffer, Bytes argsz) {
    buffer.put(info_request(argsz));
    return container().fd().ioctl(VFIO_IOMMU_GET_INFO, buffer.data());
  }
  /// The argsz that holds the whole chain.
  Bytes needed() {
    auto request = info_request(whole);
    container().fd().ioctl(VFIO_IOMMU_GET_INFO, &request).or_throw("GET_INFO");
    return {request.argsz};
  }
};

LEGACY_SUITE(ContainerInfo, InfoSuite);

TEST_P(ContainerInfo, ArgszBelowTheSmallestIsInvalid) {
  for (const Bytes argsz : {0_B, 1_B, 8_B, smallest - 1_B})
    EXPECT_EQ(ask(EdgeBuffer{smallest}, argsz), fails(EINVAL)) << argsz;
}

TEST_P(ContainerInfo, TheSmallestArgszGetsThePageSizes) {
  const EdgeBuffer buffer{smallest};
  ASSERT_EQ(ask(buffer, smallest), succeeds);
  const auto info = buffer.get<vfio_iommu_type1_info>();
  EXPECT_EQ(info.flags, unsigned{VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS});
  EXPECT_TRUE(info.iova_pgsizes & page.count);
  EXPECT_EQ(info.argsz, needed().count) << "argsz tells what the whole chain needs";
}

TEST_P(ContainerInfo, WithoutRoomForTheChainThereIsNone) {
  for (const Bytes argsz : {whole, needed() - 1_B}) {
    const EdgeBuffer buffer{argsz};
    ASSERT_EQ(ask(buffer, argsz), succeeds);
    const auto info = buffer.get<vfio_iommu_type1_info>();
    EXPECT_EQ(info.argsz, needed().count);
    EXPECT_EQ(info.cap_offset, 0u);
    EXPECT_TRUE(info.flags & VFIO_IOMMU_INFO_CAPS);
  }
}

TEST_P(ContainerInfo, TheExactArgszGetsTheChain) {
  const EdgeBuffer buffer{needed()};
  ASSERT_EQ(ask(buffer, needed()), succeeds);
  const auto info = buffer.get<vfio_iommu_type1_info>();
  EXPECT_EQ(info.argsz, needed().count);
  EXPECT_EQ(info.cap_offset, whole.count);
}

TEST_P(ContainerInfo, ALargerArgszStaysAsItIs) {
  const EdgeBuffer buffer{page};
  ASSERT_EQ(ask(buffer, page), succeeds);
  const auto argsz = buffer.get<vfio_iommu_type1_info>().argsz;
  if (differs(Behaviour::InfoKeepsALargerArgsz))
    EXPECT_EQ(argsz, needed().count);
  else
    EXPECT_EQ(argsz, page.count);
}

TEST_P(ContainerInfo, FlagsAreOutputOnly) {
  auto request = info_request(whole);
  request.flags = ~0u;
  request.iova_pgsizes = ~0ull;
  ASSERT_EQ(container().fd().ioctl(VFIO_IOMMU_GET_INFO, &request), succeeds);
  EXPECT_EQ(request.flags, unsigned{VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS});
  EXPECT_EQ(request.iova_pgsizes, container().info().page_sizes);
}

TEST_P(ContainerInfo, TheChainHasItsCapabilitiesInOrder) {
  std::vector<unsigned> ids;
  for (const auto &capability : container().info().capabilities) {
    ids.push_back(capability.id);
    EXPECT_EQ(capability.version, 1u) << "capability " << capability.id;
  }
  if (differs(Behaviour::MigrationCapability))
    EXPECT_EQ(ids, (std::vector<unsigned>{VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
                                          VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE}));
  else
    EXPECT_EQ(ids, (std::vector<unsigned>{VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
                                          VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
                                          VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE}));
}

TEST_P(ContainerInfo, TheMigrationCapabilityOffersTheSmallestPages) {
  const auto migration = container().info().migration;
  ASSERT_EQ(migration.has_value(), !differs(Behaviour::MigrationCapability));
  if (!migration)
    return;
  EXPECT_EQ(migration->flags, 0u);
  EXPECT_EQ(migration->page_sizes, page.count);
  EXPECT_EQ(migration->max_dirty_bitmap, 256_MiB);
}

TEST_P(ContainerInfo, TheRangesLeaveOutTheMsiWindow) {
  const auto ranges = container().info().iova_ranges;
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0], (IovaRange{{0}, {0xfedfffff}}));
  EXPECT_EQ(ranges[1].first, Iova{0xfef00000});
  EXPECT_GT(ranges[1].last, Iova{0xffffffff});
  EXPECT_EQ(ranges[1].last.address % page.count, page.count - 1);
}

TEST_P(ContainerInfo, DmaAvailableCountsDown) {
  const Memory memory{page};
  const std::uint32_t before = dma_available();
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  ASSERT_EQ(container().map(some_iova + page, memory), succeeds);
  if (differs(Behaviour::MappingLimit)) {
    EXPECT_EQ(before, ~0u);
    EXPECT_EQ(dma_available(), ~0u);
    return;
  }
  EXPECT_EQ(before, 65535u);
  EXPECT_EQ(dma_available(), before - 2);
  ASSERT_EQ(container().unmap_all(), unmaps(page * 2));
  EXPECT_EQ(dma_available(), before);
}

TEST_P(ContainerInfo, IsThereBeforeTheDeviceFd) {
  const IommuInfo with_device = container().info();
  client().device.close();
  const IommuInfo without = container().info();
  if (differs(Behaviour::InfoBeforeTheDeviceFd)) {
    EXPECT_FALSE(without.page_sizes == with_device.page_sizes &&
                 without.iova_ranges == with_device.iova_ranges);
    return;
  }
  EXPECT_EQ(without.page_sizes, with_device.page_sizes);
  EXPECT_EQ(without.iova_ranges, with_device.iova_ranges);
}

TEST_P(ContainerInfo, BadPointersAreFaults) {
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_GET_INFO), fails(EFAULT));
  EXPECT_EQ(ask(EdgeBuffer{smallest - 1_B}, whole), fails(EFAULT)) << "too short to read";
  EXPECT_EQ(ask(EdgeBuffer{whole}, page), fails(EFAULT)) << "too short for the chain";
  EXPECT_EQ(ask(EdgeBuffer{smallest}, whole), fails(EFAULT)) << "too short to write back";
}

TEST_P(ContainerInfo, AReadOnlyArgumentIsAFault) {
  const EdgeBuffer buffer{whole};
  buffer.put(info_request(whole));
  buffer.make_read_only();
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_GET_INFO, buffer.data()), fails(EFAULT));
}

} // namespace
