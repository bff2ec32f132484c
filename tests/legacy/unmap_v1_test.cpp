// SPDX-License-Identifier: MIT
// VFIO_IOMMU_UNMAP_DMA in a TYPE1 (version 1) container: an unmap that covers a mapping's first
// IOVA takes all of it; one that starts inside a mapping takes nothing, and both succeed.

#include <cerrno>

#include "suite.h"

namespace {

using namespace legacy;

class V1Suite : public AttachedV1Suite {
protected:
  const Memory memory_{page * 4};
  /// Whether this provider unmaps exactly what it is told, in the middle of mappings too.
  const bool cuts_ = differs(Behaviour::V1CutsMappings);

  void SetUp() override {
    AttachedV1Suite::SetUp();
    ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  }
};

LEGACY_SUITE(UnmapV1, V1Suite);

TEST_P(UnmapV1, TheWholeMappingIsUnmapped) {
  EXPECT_EQ(container().unmap(some_iova, memory_.size()), unmaps(memory_.size()));
}

TEST_P(UnmapV1, TheFirstPageTakesTheWholeMapping) {
  EXPECT_EQ(container().unmap(some_iova, page), cuts_ ? unmaps(page) : unmaps(memory_.size()));
  EXPECT_EQ(container().unmap_all(), cuts_ ? unmaps(page * 3) : unmaps({0}));
}

TEST_P(UnmapV1, AStartInsideTakesNothing) {
  EXPECT_EQ(container().unmap(some_iova + page, page), cuts_ ? unmaps(page) : unmaps({0}));
  EXPECT_EQ(container().unmap_all(), cuts_ ? unmaps(page * 3) : unmaps(memory_.size()));
}

TEST_P(UnmapV1, AStartInsideTakesNothingEvenToTheEnd) {
  EXPECT_EQ(container().unmap(some_iova + page, page * 3), cuts_ ? unmaps(page * 3) : unmaps({0}));
  EXPECT_EQ(container().unmap_all(), cuts_ ? unmaps(page) : unmaps(memory_.size()));
}

TEST_P(UnmapV1, AStartInsideSparesEvenLaterMappings) {
  ASSERT_EQ(container().map(some_iova + 1_MiB, memory_), succeeds);
  EXPECT_EQ(container().unmap(some_iova + page, 2_MiB), cuts_ ? unmaps(page * 7) : unmaps({0}));
  EXPECT_EQ(container().unmap_all(), cuts_ ? unmaps(page) : unmaps(memory_.size() * 2));
}

TEST_P(UnmapV1, AnEndInsideTakesTheWholeMapping) {
  ASSERT_EQ(container().map(some_iova + 1_MiB, memory_), succeeds);
  EXPECT_EQ(container().unmap(some_iova - page, 1_MiB + page * 2),
            cuts_ ? unmaps(page * 5) : unmaps(memory_.size() * 2));
}

TEST_P(UnmapV1, NothingThereIsNoError) {
  EXPECT_EQ(container().unmap(some_iova + 1_MiB, page), unmaps({0}));
}

TEST_P(UnmapV1, AllTakesEverything) {
  ASSERT_EQ(container().map(some_iova + 1_MiB, memory_), succeeds);
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size() * 2));
}

TEST_P(UnmapV1, TheDeviceWorks) {
  expect_dma_works(container(), edu(), some_iova + 1_MiB);
}

} // namespace
