// SPDX-License-Identifier: MIT
/// @file
/// VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA as calls: arguments, and what the backend is asked
/// to do. The rules about addresses are in mapping_table_test.cpp.

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr Bytes page{0x1000};

class MapDma : public ContainerTest {
protected:
  Answer map(const vfio_iommu_type1_dma_map &request) {
    return container.call(VFIO_IOMMU_MAP_DMA, &request);
  }
  static vfio_iommu_type1_dma_map good() { return map_request(Iova{0x10000}, some_memory, page); }
};

TEST_F(MapDma, ReachesTheBackend) {
  EXPECT_EQ(map(good()), succeeds);
  EXPECT_EQ(machine.mapped(), (std::vector<IovaRange>{{Iova{0x10000}, Iova{0x10fff}}}));
}

TEST_F(MapDma, RefusesAShortArgsz) {
  auto request = good();
  for (const std::uint32_t argsz : {0U, 24U, 31U}) {
    request.argsz = argsz;
    EXPECT_EQ(map(request), fails(EINVAL)) << argsz;
  }
}

TEST_F(MapDma, TakesALongerArgsz) {
  auto request = good();
  request.argsz = 33;
  EXPECT_EQ(map(request), succeeds);
  request.iova += 0x1000;
  request.argsz = UINT32_MAX;
  EXPECT_EQ(map(request), succeeds);
}

TEST_F(MapDma, RefusesUnknownFlags) {
  auto request = good();
  for (unsigned int bit = 3; bit < 32; ++bit) {
    request.flags = read_write | (1U << bit);
    EXPECT_EQ(map(request), fails(EINVAL)) << "bit " << bit;
  }
}

TEST_F(MapDma, RefusesUnknownFlagsBeforeAnythingElse) {
  auto request = good();
  request.flags = 1U << 31;
  request.size = 2;
  request.iova = UINT64_MAX;
  EXPECT_EQ(map(request), fails(EINVAL)) << "and not EOVERFLOW";
}

TEST_F(MapDma, HandsAccessOnBitByBit) {
  EXPECT_EQ(container.map(Iova{0x1000}, some_memory, page, VFIO_DMA_MAP_FLAG_READ), succeeds);
  EXPECT_EQ(container.map(Iova{0x2000}, some_memory, page, VFIO_DMA_MAP_FLAG_WRITE), succeeds);
  EXPECT_EQ(container.map(Iova{0x3000}, some_memory, page, 0), fails(EINVAL));
}

TEST_F(MapDma, AnswersTheTablesErrnos) {
  EXPECT_EQ(container.map(Iova{0x10000}, some_memory, Bytes{0}), fails(EINVAL));
  EXPECT_EQ(container.map(Iova{0x10800}, some_memory, page), fails(EINVAL));
  EXPECT_EQ(container.map(Iova{0xfee00000}, some_memory, page), fails(EINVAL));
  EXPECT_EQ(container.map(Iova{UINT64_MAX - 0xfff}, some_memory, Bytes{0x2000}), fails(EOVERFLOW));
  EXPECT_EQ(container.map(Iova{0x10000}, ClientAddr{UINT64_MAX - 0xfff}, Bytes{0x2000}),
            fails(EOVERFLOW));
  ASSERT_EQ(container.map(Iova{0x10000}, some_memory, page), succeeds);
  EXPECT_EQ(container.map(Iova{0x10000}, some_memory, page), fails(EEXIST));
  EXPECT_EQ(machine.mapped().size(), 1U) << "the backend was asked for the good one only";
}

TEST_F(MapDma, RefusesPointersToNothing) {
  const Pages pages;
  EXPECT_EQ(container.call(VFIO_IOMMU_MAP_DMA, nullptr), fails(EFAULT));
  EXPECT_EQ(container.call(VFIO_IOMMU_MAP_DMA, pages.end()), fails(EFAULT));
  EXPECT_EQ(container.call(VFIO_IOMMU_MAP_DMA, pages.put_at_end(good(), 31)), fails(EFAULT));
  EXPECT_TRUE(machine.mapped().empty());
}

TEST_F(MapDma, TakesAStructInReadOnlyMemory) {
  const Pages pages;
  std::byte *place = pages.put_at_end(good());
  pages.protect(PROT_READ);
  EXPECT_EQ(container.call(VFIO_IOMMU_MAP_DMA, place), succeeds) << "it is only read";
}

TEST_F(MapDma, LeavesNoTraceIfTheBackendFails) {
  machine.fail_next("map", EFAULT);
  EXPECT_EQ(map(good()), fails(EFAULT));
  EXPECT_EQ(container.info().available, 65535U);
  EXPECT_EQ(map(good()), succeeds) << "and the IOVA is free";
}

TEST_F(MapDma, PassesEveryErrnoOfTheBackendOn) {
  for (const int code : {EFAULT, ENOMEM, EBUSY, ESRCH, EPERM}) {
    machine.fail_next("map", code);
    EXPECT_EQ(map(good()), fails(code));
  }
}

TEST_F(MapDma, FirstAttachesAgainWhatItsClientHasClosed) {
  {
    const Fd device = group->device(first_device);
    ASSERT_TRUE(device);
  }
  machine.close_at_client(first_device);
  machine.log.clear();
  EXPECT_EQ(map(good()), succeeds);
  EXPECT_EQ(machine.log, (std::vector<std::string>{"attach 1", "map [0x10000, 0x10fff]"}));
}

TEST_F(MapDma, MapsNothingIfAttachingAgainFails) {
  machine.fail_next("attach_claimed", EPERM);
  EXPECT_EQ(map(good()), fails(EPERM));
  EXPECT_EQ(container.info().available, 65535U);
}

/// A container that takes three mappings.
class LimitedContainer : public ContainerTest {
protected:
  LimitedContainer() : ContainerTest(nullptr, 3) {}
};

TEST_F(LimitedContainer, TakesNoMoreThanItsLimit) {
  EXPECT_EQ(container.info().available, 3U);
  for (std::uint64_t i = 0; i < 3; ++i)
    EXPECT_EQ(container.map(Iova{i * 0x1000}, some_memory, page), succeeds);
  EXPECT_EQ(container.info().available, 0U);
  EXPECT_EQ(container.map(Iova{0x10000}, some_memory, page), fails(ENOSPC));
  EXPECT_EQ(container.map(Iova{0x1000}, some_memory, page), fails(EEXIST)) << "comes first";
  EXPECT_EQ(container.unmap(Iova{0}, page), answers(0x1000));
  EXPECT_EQ(container.map(Iova{0x10000}, some_memory, page), succeeds);
}

class UnmapDma : public ContainerTest {
protected:
  Answer unmap(const vfio_iommu_type1_dma_unmap &request) {
    return container.call(VFIO_IOMMU_UNMAP_DMA, &request);
  }
};

TEST_F(UnmapDma, WritesTheSizeThatWasUnmapped) {
  ASSERT_EQ(container.map(Iova{0x10000}, some_memory, Bytes{0x3000}), succeeds);
  auto request = unmap_request(Iova{0}, Bytes{0x100000});
  ASSERT_EQ(unmap(request), succeeds);
  EXPECT_EQ(request.size, 0x3000U);
  EXPECT_EQ(request.argsz, sizeof(request));
  EXPECT_EQ(request.flags, 0U);
  EXPECT_EQ(request.iova, 0U);
  EXPECT_TRUE(machine.mapped().empty());
}

TEST_F(UnmapDma, OfNothingIsASuccessOfSizeZero) {
  EXPECT_EQ(container.unmap(Iova{0x10000}, page), answers(0));
  EXPECT_EQ(container.unmap_all(), answers(0));
}

TEST_F(UnmapDma, AsksTheBackendForTheWholeRunAtOnce) {
  ASSERT_EQ(container.map(Iova{0x10000}, some_memory, page), succeeds);
  ASSERT_EQ(container.map(Iova{0x20000}, some_memory, page), succeeds);
  machine.log.clear();
  EXPECT_EQ(container.unmap(Iova{0}, Bytes{0x100000}), answers(0x2000));
  EXPECT_EQ(machine.log, (std::vector<std::string>{"unmap [0x10000, 0x20fff]"}));
}

TEST_F(UnmapDma, OfEverythingTakesEverything) {
  ASSERT_EQ(container.map(Iova{0}, some_memory, page), succeeds);
  ASSERT_EQ(container.map(Iova{0xfef00000}, some_memory, Bytes{0x2000}), succeeds);
  EXPECT_EQ(container.unmap_all(), answers(0x3000));
  EXPECT_TRUE(machine.mapped().empty());
}

TEST_F(UnmapDma, OfEverythingTakesNoRange) {
  ASSERT_EQ(container.map(Iova{0x1000}, some_memory, page), succeeds);
  EXPECT_EQ(container.unmap(Iova{0}, page, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(container.unmap(Iova{0x1000}, Bytes{0}, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(container.unmap(Iova{0x1000}, page, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(machine.mapped().size(), 1U);
}

TEST_F(UnmapDma, RefusesAShortArgsz) {
  auto request = unmap_request(Iova{0}, page);
  for (const std::uint32_t argsz : {0U, 16U, 23U}) {
    request.argsz = argsz;
    EXPECT_EQ(unmap(request), fails(EINVAL)) << argsz;
  }
}

TEST_F(UnmapDma, TakesALongerArgszAndWritesOnlyItsStruct) {
  const Pages pages;
  auto request = unmap_request(Iova{0}, page);
  request.argsz = 4096;
  EXPECT_EQ(container.call(VFIO_IOMMU_UNMAP_DMA, pages.put_at_end(request)), succeeds);
}

TEST_F(UnmapDma, RefusesUnknownFlags) {
  for (unsigned int bit = 3; bit < 32; ++bit)
    EXPECT_EQ(container.unmap(Iova{0}, page, 1U << bit), fails(EINVAL)) << "bit " << bit;
}

TEST_F(UnmapDma, LeavesItsStructAloneIfItFails) {
  auto request = unmap_request(Iova{0x800}, page);
  EXPECT_EQ(unmap(request), fails(EINVAL));
  EXPECT_EQ(request.size, page.value);
}

TEST_F(UnmapDma, RefusesPointersToNothing) {
  const Pages pages;
  const auto request = unmap_request(Iova{0}, page);
  EXPECT_EQ(container.call(VFIO_IOMMU_UNMAP_DMA, nullptr), fails(EFAULT));
  EXPECT_EQ(container.call(VFIO_IOMMU_UNMAP_DMA, pages.put_at_end(request, 23)), fails(EFAULT));
}

TEST_F(UnmapDma, FailsOnReadOnlyMemoryAfterUnmapping) {
  ASSERT_EQ(container.map(Iova{0}, some_memory, page), succeeds);
  const Pages pages;
  std::byte *place = pages.put_at_end(unmap_request(Iova{0}, page));
  pages.protect(PROT_READ);
  EXPECT_EQ(container.call(VFIO_IOMMU_UNMAP_DMA, place), fails(EFAULT));
  EXPECT_TRUE(machine.mapped().empty()) << "as type1: the work is done, only the answer is lost";
  EXPECT_EQ(container.info().available, 65535U);
}

TEST_F(UnmapDma, KeepsTheMappingIfTheBackendFails) {
  ASSERT_EQ(container.map(Iova{0}, some_memory, page), succeeds);
  machine.fail_next("unmap", EIO);
  EXPECT_EQ(container.unmap(Iova{0}, page), fails(EIO));
  EXPECT_EQ(container.map(Iova{0}, some_memory, page), fails(EEXIST));
  EXPECT_EQ(container.unmap(Iova{0}, page), answers(0x1000));
}

TEST_F(ContainerTest, OfVersion2CutsNoMapping) {
  ASSERT_EQ(container.map(Iova{0x10000}, some_memory, Bytes{0x2000}), succeeds);
  EXPECT_EQ(container.unmap(Iova{0x10000}, page), fails(EINVAL));
  EXPECT_EQ(container.unmap(Iova{0x11000}, page), fails(EINVAL));
  EXPECT_EQ(container.unmap(Iova{0x10000}, Bytes{0x2000}), answers(0x2000));
}

TEST_F(MachineTest, ContainerOfVersion1TakesWholeMappings) {
  ContainerFile container = program.open_container();
  const GroupFile group = program.open_group_in(first_group, container, VFIO_TYPE1_IOMMU);
  ASSERT_EQ(container.map(Iova{0x10000}, some_memory, Bytes{0x2000}), succeeds);
  EXPECT_EQ(container.unmap(Iova{0x11000}, page), answers(0));
  EXPECT_EQ(container.unmap(Iova{0x10000}, page), answers(0x2000));
  EXPECT_TRUE(machine.mapped().empty());
}

TEST_F(MachineTest, ContainersDoNotShareIovas) {
  ContainerFile one = program.open_container();
  ContainerFile other = program.open_container();
  const GroupFile in_one = program.open_group_in(first_group, one);
  const GroupFile in_other = program.open_group_in(second_group, other);
  EXPECT_EQ(one.map(Iova{0x1000}, some_memory, page), succeeds);
  EXPECT_EQ(other.map(Iova{0x1000}, some_memory, page), succeeds);
  EXPECT_EQ(one.unmap_all(), answers(0x1000));
  EXPECT_EQ(other.unmap_all(), answers(0x1000));
}

} // namespace
} // namespace vfio_shim::test
