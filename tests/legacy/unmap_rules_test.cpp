// SPDX-License-Identifier: MIT
// VFIO_IOMMU_UNMAP_DMA in a TYPE1v2 container.

#include <cerrno>
#include <cstddef>

#include "suite.h"

namespace {

using namespace legacy;

constexpr Bytes smallest{offsetof(vfio_iommu_type1_dma_unmap, size) + sizeof(__u64)};
constexpr Iova top_page{~std::uint64_t{0} - page.count + 1};

class UnmapSuite : public AttachedSuite {
protected:
  const Memory memory_{page * 4};

  void SetUp() override {
    AttachedSuite::SetUp();
    ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  }
  /// Checks that what SetUp mapped is still mapped, all of it and nothing else.
  void expect_untouched() { EXPECT_EQ(container().unmap_all(), unmaps(memory_.size())); }
  Answer unmap(vfio_iommu_type1_dma_unmap &request) {
    return container().fd().ioctl(VFIO_IOMMU_UNMAP_DMA, &request);
  }
};

LEGACY_SUITE(UnmapRules, UnmapSuite);

TEST_P(UnmapRules, WhatWasMappedIsUnmapped) {
  EXPECT_EQ(container().unmap(some_iova, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(container().map(some_iova, memory_), succeeds) << "and can be mapped again";
}

TEST_P(UnmapRules, OnlyTheSizeIsWrittenBack) {
  auto request = unmap_request(some_iova - page, memory_.size() + page * 7);
  request.argsz = 4096;
  ASSERT_EQ(unmap(request), succeeds);
  EXPECT_EQ(request.size, memory_.size().count);
  EXPECT_EQ(request.iova, (some_iova - page).address);
  EXPECT_EQ(request.argsz, 4096u);
  EXPECT_EQ(request.flags, 0u);
}

TEST_P(UnmapRules, ARangeTakesAllMappingsInIt) {
  ASSERT_EQ(container().map(some_iova + 1_MiB, memory_), succeeds);
  ASSERT_EQ(container().map(some_iova + 4_MiB, memory_), succeeds);
  EXPECT_EQ(container().unmap(some_iova, 2_MiB), unmaps(memory_.size() * 2)) << "gaps do not count";
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size())) << "the one outside stayed";
}

TEST_P(UnmapRules, AMappingCannotBeCut) {
  const Answer refused = expected(Behaviour::UnmapCuttingAMapping, fails(EINVAL));
  EXPECT_EQ(container().unmap(some_iova, page), refused) << "its start";
  EXPECT_EQ(container().unmap(some_iova + page, page), refused) << "its middle";
  EXPECT_EQ(container().unmap(some_iova + page * 3, page), refused) << "its end";
  EXPECT_EQ(container().unmap(some_iova - page, page * 2), refused) << "into it";
  EXPECT_EQ(container().unmap(some_iova + page * 3, page * 2), refused) << "out of it";
  expect_untouched();
}

TEST_P(UnmapRules, ACutAnywhereRefusesTheWholeRange) {
  const Iova next = some_iova + memory_.size();
  ASSERT_EQ(container().map(next, memory_), succeeds);
  EXPECT_EQ(container().unmap(some_iova, memory_.size() + page),
            expected(Behaviour::UnmapCuttingAMapping, fails(EINVAL)));
  const bool takes_the_first = differs(Behaviour::RefusedUnmapTakesWhatComesBeforeTheCut);
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size() * (takes_the_first ? 1 : 2)));
}

TEST_P(UnmapRules, NothingThereIsNoError) {
  EXPECT_EQ(container().unmap(some_iova + 1_MiB, page), unmaps({0}));
  EXPECT_EQ(container().unmap({0}, page), unmaps({0}));
  EXPECT_EQ(container().unmap({0xfee00000}, page), unmaps({0})) << "a reserved IOVA";
  EXPECT_EQ(container().unmap(top_page, page), unmaps({0})) << "beyond the aperture";
  expect_untouched();
  EXPECT_EQ(container().unmap(some_iova, memory_.size()), unmaps({0})) << "unmapped already";
}

TEST_P(UnmapRules, MisalignmentIsInvalid) {
  for (const std::uint64_t off : {1u, 512u, 4095u}) {
    const Answer refused = expected(Behaviour::MisalignedUnmap, fails(EINVAL));
    EXPECT_EQ(container().unmap(some_iova + Bytes{off}, page), refused) << "iova";
    EXPECT_EQ(container().unmap(some_iova, memory_.size() - page + Bytes{off}), refused) << "size";
    EXPECT_EQ(container().unmap(some_iova + 1_MiB + Bytes{off}, page),
              expected(Behaviour::MisalignedUnmapOfNothing, fails(EINVAL)))
        << "where nothing is mapped";
  }
  expect_untouched();
}

TEST_P(UnmapRules, SizeZeroIsInvalid) {
  EXPECT_EQ(container().unmap(some_iova, {0}), fails(EINVAL));
  EXPECT_EQ(container().unmap({0}, {0}), fails(EINVAL));
  expect_untouched();
}

TEST_P(UnmapRules, ARangeThatWrapsIsAnOverflow) {
  EXPECT_EQ(container().unmap(top_page, page * 2), fails(EOVERFLOW));
  EXPECT_EQ(container().unmap(some_iova, {top_page.address}), fails(EOVERFLOW));
  expect_untouched();
}

TEST_P(UnmapRules, NearlyEverythingIsARange) {
  EXPECT_EQ(container().unmap({0}, {top_page.address}), unmaps(memory_.size()));
}

TEST_P(UnmapRules, AllTakesEverything) {
  ASSERT_EQ(container().map({0}, memory_), succeeds);
  ASSERT_EQ(container().map({0xfef00000}, memory_), succeeds);
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size() * 3));
  EXPECT_EQ(container().unmap_all(), unmaps({0})) << "of nothing";
}

TEST_P(UnmapRules, AllTakesNoRange) {
  EXPECT_EQ(container().unmap({0}, page, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(container().unmap(some_iova, {0}, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(container().unmap(some_iova, page, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(container().unmap({1}, {0}, VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  expect_untouched();
}

TEST_P(UnmapRules, UnknownFlagsAreInvalid) {
  for (const std::uint32_t bit : {3u, 4u, 16u, 31u})
    EXPECT_EQ(container().unmap(some_iova, memory_.size(), 1u << bit), fails(EINVAL))
        << "bit " << bit;
  expect_untouched();
}

TEST_P(UnmapRules, ADirtyBitmapNeedsDirtyTracking) {
  constexpr std::uint32_t bitmap = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
  EXPECT_EQ(container().unmap(some_iova, memory_.size(), bitmap), fails(EINVAL))
      << "argsz too short for it";
  EXPECT_EQ(container().unmap({0}, {0}, bitmap | VFIO_DMA_UNMAP_FLAG_ALL), fails(EINVAL));
  EXPECT_EQ(container().unmap(some_iova, memory_.size(), bitmap | VFIO_DMA_UNMAP_FLAG_VADDR),
            fails(EINVAL));
  expect_untouched();
}

TEST_P(UnmapRules, ArgszBelowTheStructIsInvalid) {
  for (const std::uint32_t argsz : {0u, 4u, 23u}) {
    auto request = unmap_request(some_iova, memory_.size());
    request.argsz = argsz;
    EXPECT_EQ(unmap(request), fails(EINVAL)) << argsz;
  }
  expect_untouched();
}

TEST_P(UnmapRules, ReadsAndWritesNothingBeyondTheStruct) {
  const EdgeBuffer buffer{smallest};
  auto request = unmap_request(some_iova, memory_.size());
  request.argsz = smallest.count;
  buffer.put(request);
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_UNMAP_DMA, buffer.data()), succeeds);
}

TEST_P(UnmapRules, BadPointersAreFaults) {
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_UNMAP_DMA), fails(EFAULT));
  const EdgeBuffer too_short{smallest - 1_B};
  too_short.put(unmap_request(some_iova, memory_.size()));
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_UNMAP_DMA, too_short.data()), fails(EFAULT));
  expect_untouched();
}

TEST_P(UnmapRules, AReadOnlyArgumentIsAFaultAfterTheUnmap) {
  const EdgeBuffer buffer{smallest};
  buffer.put(unmap_request(some_iova, memory_.size()));
  buffer.make_read_only();
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_UNMAP_DMA, buffer.data()), fails(EFAULT));
  EXPECT_EQ(container().unmap_all(), unmaps({0})) << "it was unmapped all the same";
}

TEST_P(UnmapRules, WhatIsRefusedWritesNothingBack) {
  auto request = unmap_request(some_iova, page);
  EXPECT_FALSE(unmap(request).ok());
  if (differs(Behaviour::RefusedUnmapWritesBack))
    EXPECT_EQ(request.size, 0u);
  else
    EXPECT_EQ(request.size, page.count);
}

} // namespace
