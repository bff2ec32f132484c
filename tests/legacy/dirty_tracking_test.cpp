// SPDX-License-Identifier: MIT
// VFIO_IOMMU_DIRTY_PAGES, and unmapping with a dirty bitmap. An IOMMU that does not track what
// devices write (emulated ones do not) reports every mapped page, every time.

#include <cerrno>
#include <vector>

#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
constexpr std::uint32_t get = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
constexpr std::uint64_t untouched = 0xaaaaaaaaaaaaaaaa;

using Bitmap = std::vector<std::uint64_t>;

LEGACY_SUITE(DirtyTrackingOffer, AttachedSuite);

TEST_P(DirtyTrackingOffer, StartsAndStops) {
  EXPECT_EQ(container().dirty_pages(start), expected(Behaviour::DirtyTracking, succeeds));
  EXPECT_EQ(container().dirty_pages(stop), expected(Behaviour::DirtyTracking, succeeds));
}

class DirtySuite : public AttachedSuite {
protected:
  const Memory memory_{page * 256};

  void start_tracking() { ASSERT_EQ(container().dirty_pages(start), succeeds); }
};

LEGACY_SUITE_OF_THOSE_WITH(Behaviour::DirtyTracking, DirtyTracking, DirtySuite);
LEGACY_SUITE_OF_THOSE_WITH(Behaviour::DirtyTracking, DirtyTrackingV1, AttachedV1Suite);

TEST_P(DirtyTracking, StartAndStopMayBeRepeated) {
  EXPECT_EQ(container().dirty_pages(stop), succeeds) << "before it was started";
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(container().dirty_pages(start), succeeds);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(container().dirty_pages(stop), succeeds);
}

TEST_P(DirtyTracking, TakesExactlyOneKnownFlag) {
  for (const std::uint32_t flags :
       {0u, start | stop, start | get, start | stop | get, 8u, start | 8u, 1u << 31})
    EXPECT_EQ(container().dirty_pages(flags), fails(EINVAL)) << "flags " << flags;
}

TEST_P(DirtyTracking, ChecksItsArgument) {
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_DIRTY_PAGES), fails(EFAULT));
  vfio_iommu_type1_dirty_bitmap request{};
  request.flags = start;
  for (const std::uint32_t too_short : {0u, 4u, 7u}) {
    request.argsz = too_short;
    EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_DIRTY_PAGES, &request), fails(EINVAL)) << too_short;
  }
  EXPECT_EQ(container().dirty_pages(get), fails(EINVAL)) << "no room for the range";
}

TEST_P(DirtyTracking, ABitmapNeedsTracking) {
  Bitmap bitmap(1);
  ASSERT_EQ(container().map(some_iova, memory_.data(), page), succeeds);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, bitmap), fails(EINVAL));
  start_tracking();
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, bitmap), succeeds);
  ASSERT_EQ(container().dirty_pages(stop), succeeds);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, bitmap), fails(EINVAL));
}

TEST_P(DirtyTracking, EveryMappedPageIsDirtyEveryTime) {
  ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  start_tracking();
  for (int i = 0; i < 2; ++i) {
    Bitmap bitmap(4);
    ASSERT_EQ(container().dirty_bitmap(some_iova, memory_.size(), bitmap), succeeds);
    EXPECT_EQ(bitmap, (Bitmap{~0ull, ~0ull, ~0ull, ~0ull}));
  }
}

TEST_P(DirtyTracking, WhatIsMappedWhileTrackingIsDirtyToo) {
  start_tracking();
  ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  Bitmap bitmap(4);
  ASSERT_EQ(container().dirty_bitmap(some_iova, memory_.size(), bitmap), succeeds);
  EXPECT_EQ(bitmap, (Bitmap{~0ull, ~0ull, ~0ull, ~0ull}));
}

TEST_P(DirtyTracking, EvenWhatTheDeviceMayOnlyRead) {
  ASSERT_EQ(container().map(some_iova, memory_.data(), page * 64, Access::Read), succeeds);
  start_tracking();
  Bitmap bitmap(1);
  ASSERT_EQ(container().dirty_bitmap(some_iova, page * 64, bitmap), succeeds);
  EXPECT_EQ(bitmap[0], ~0ull);
}

TEST_P(DirtyTracking, MappingsFindTheirPlacesInTheBitmap) {
  // Pages 0-2, 5, 60-70 of a range of 128 pages.
  ASSERT_EQ(container().map(some_iova, memory_.data(), page * 3), succeeds);
  ASSERT_EQ(container().map(some_iova + page * 5, memory_.data(), page), succeeds);
  ASSERT_EQ(container().map(some_iova + page * 60, memory_.data(), page * 11), succeeds);
  start_tracking();
  Bitmap bitmap(2);
  ASSERT_EQ(container().dirty_bitmap(some_iova, page * 128, bitmap), succeeds);
  EXPECT_EQ(bitmap[0], 0xf000000000000027);
  EXPECT_EQ(bitmap[1], 0x7fu);
}

TEST_P(DirtyTracking, WhereNothingIsMappedTheBitmapStays) {
  ASSERT_EQ(container().map(some_iova + page * 64, memory_.data(), page), succeeds);
  start_tracking();
  Bitmap bitmap(3, untouched);
  ASSERT_EQ(container().dirty_bitmap(some_iova, page * 192, bitmap), succeeds);
  EXPECT_EQ(bitmap, (Bitmap{untouched, 1, untouched})) << "whole u64 are written";
  bitmap.assign(1, untouched);
  ASSERT_EQ(container().dirty_bitmap({0}, page, bitmap), succeeds);
  EXPECT_EQ(bitmap[0], untouched);
}

TEST_P(DirtyTracking, BitsBelowAMappingStayInItsFirstWordAndThoseAboveItInItsLastDoNot) {
  ASSERT_EQ(container().map(some_iova + page * 3, memory_.data(), page), succeeds);
  ASSERT_EQ(container().map(some_iova + page * 64, memory_.data(), page), succeeds);
  start_tracking();
  Bitmap bitmap(2, untouched);
  ASSERT_EQ(container().dirty_bitmap(some_iova, page * 128, bitmap), succeeds);
  EXPECT_EQ(bitmap[0], untouched | 8) << "a mapping that begins within a word is added to it";
  EXPECT_EQ(bitmap[1], 1u) << "one that begins with a word replaces it";
}

TEST_P(DirtyTracking, ABitmapMayBeAnywhere) {
  ASSERT_EQ(container().map(some_iova, memory_.data(), page * 9), succeeds);
  start_tracking();
  std::vector<std::byte> bytes(17);
  auto *odd = reinterpret_cast<std::uint64_t *>(&bytes[5]);
  ASSERT_EQ(container().dirty_bitmap(some_iova, page * 64, {odd, 1}), succeeds);
  EXPECT_EQ(bytes[5], std::byte{0xff});
  EXPECT_EQ(bytes[6], std::byte{1});
}

TEST_P(DirtyTracking, AFaultWithinTheBitmapEndsTheReportThere) {
  ASSERT_EQ(container().map(some_iova, memory_.data(), page * 64), succeeds);
  ASSERT_EQ(container().map(some_iova + page * 64, memory_.data(), page * 64), succeeds);
  start_tracking();
  const Memory guarded{page * 2};
  guarded.punch_hole(page, page);
  auto *last_word = reinterpret_cast<std::uint64_t *>(guarded.at(page)) - 1;
  EXPECT_EQ(container().dirty_bitmap(some_iova, page * 128, {last_word, 2}), fails(EFAULT));
  EXPECT_EQ(*last_word, ~0ull);
}

TEST_P(DirtyTracking, AFaultWithinTheBitmapEndsTheUnmapThere) {
  ASSERT_EQ(container().map(some_iova, memory_.data(), page * 64), succeeds);
  ASSERT_EQ(container().map(some_iova + page * 64, memory_.data(), page * 64), succeeds);
  start_tracking();
  const Memory guarded{page * 2};
  guarded.punch_hole(page, page);
  auto *last_word = reinterpret_cast<std::uint64_t *>(guarded.at(page)) - 1;
  EXPECT_EQ(container().unmap_with_dirty_bitmap(some_iova, page * 128, {last_word, 2}),
            fails(EFAULT));
  EXPECT_EQ(container().unmap_all(), unmaps(page * 64)) << "the second one is left";
}

TEST_P(DirtyTracking, AnAddressIsInvalidWhereNoUserMemoryCanBe) {
  start_tracking();
  for (const std::uint64_t bad : {1ull << 58, 1ull << 63, ~0ull - 3})
    EXPECT_EQ(
        container().dirty_bitmap(some_iova, page, {reinterpret_cast<std::uint64_t *>(bad), 1}),
        fails(EINVAL))
        << std::hex << bad;
}

TEST_P(DirtyTracking, ARangeMustNotCutAMapping) {
  ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  start_tracking();
  Bitmap bitmap(8);
  EXPECT_EQ(container().dirty_bitmap(some_iova + page, memory_.size() - page, bitmap),
            fails(EINVAL));
  EXPECT_EQ(container().dirty_bitmap(some_iova, memory_.size() - page, bitmap), fails(EINVAL));
  EXPECT_EQ(container().dirty_bitmap(some_iova - page, memory_.size(), bitmap), fails(EINVAL));
  EXPECT_EQ(container().dirty_bitmap(some_iova - page, memory_.size() + page * 2, bitmap),
            succeeds);
}

TEST_P(DirtyTracking, ARangeIsMadeOfPages) {
  start_tracking();
  Bitmap bitmap(8);
  EXPECT_EQ(container().dirty_bitmap(some_iova, {0}, bitmap), fails(EINVAL)) << "size zero";
  EXPECT_EQ(container().dirty_bitmap(some_iova + 1_B, page, bitmap), fails(EINVAL));
  EXPECT_EQ(container().dirty_bitmap(some_iova, page + 1_B, bitmap), fails(EINVAL));
  EXPECT_EQ(container().dirty_bitmap({~0ull - 4095}, page * 2, bitmap), fails(EOVERFLOW));
  for (const Bytes other : {2_KiB, 8_KiB, 2_MiB})
    EXPECT_EQ(container().dirty_bitmap(some_iova, 4_MiB, bitmap, other), fails(EINVAL)) << other;
}

TEST_P(DirtyTracking, TheBitmapMustBeLargeEnough) {
  start_tracking();
  Bitmap bitmap(4);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page * 256, bitmap), succeeds);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page * 257, bitmap), fails(EINVAL));
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, {}), fails(EINVAL));
}

TEST_P(DirtyTracking, ABadBitmapIsAFault) {
  start_tracking();
  auto *nowhere = reinterpret_cast<std::uint64_t *>(page.count);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, {nowhere, 1}), succeeds)
      << "nothing to write";
  ASSERT_EQ(container().map(some_iova, memory_.data(), page), succeeds);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, {nowhere, 1}), fails(EFAULT));
  auto *kernel = reinterpret_cast<std::uint64_t *>(0xffff888000000000);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, {kernel, 1}), fails(EINVAL));
}

TEST_P(DirtyTracking, UnmapGivesTheBitmapOfWhatItTakes) {
  ASSERT_EQ(container().map(some_iova, memory_.data(), page * 3), succeeds);
  ASSERT_EQ(container().map(some_iova + page * 62, memory_.data(), page * 4), succeeds);
  start_tracking();
  Bitmap bitmap(2);
  EXPECT_EQ(container().unmap_with_dirty_bitmap(some_iova, page * 128, bitmap), unmaps(page * 7));
  EXPECT_EQ(bitmap[0], 0xc000000000000007);
  EXPECT_EQ(bitmap[1], 3u);
  EXPECT_EQ(container().unmap_all(), unmaps({0}));
}

TEST_P(DirtyTracking, UnmapWithABitmapTakesNoOtherFlag) {
  start_tracking();
  for (const std::uint32_t other : {VFIO_DMA_UNMAP_FLAG_ALL, VFIO_DMA_UNMAP_FLAG_VADDR})
    EXPECT_EQ(container().unmap({0}, {0}, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | other),
              fails(EINVAL));
}

TEST_P(DirtyTracking, UnmapWithABitmapSaysWhereTheAddressSpaceEnds) {
  start_tracking();
  Bitmap bitmap(4);
  EXPECT_EQ(container().unmap_with_dirty_bitmap({~0ull - 4095}, page * 2, bitmap),
            fails(EOVERFLOW));
}

TEST_P(DirtyTracking, UnmapWithABitmapHasTheSameRules) {
  Bitmap bitmap(4);
  ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  EXPECT_EQ(container().unmap_with_dirty_bitmap(some_iova, memory_.size(), bitmap), fails(EINVAL))
      << "no tracking";
  start_tracking();
  const auto refused = [&](Iova iova, Bytes size, Bitmap into, Bytes page_size) {
    return container().unmap_with_dirty_bitmap(iova, size, into, page_size) == fails(EINVAL);
  };
  EXPECT_TRUE(refused(some_iova, page, bitmap, page)) << "cuts the mapping";
  EXPECT_TRUE(refused(some_iova, memory_.size(), Bitmap(3), page)) << "bitmap too small";
  EXPECT_TRUE(refused(some_iova, memory_.size(), {}, page)) << "no bitmap";
  EXPECT_TRUE(refused(some_iova, memory_.size(), bitmap, 2_MiB)) << "other page size";
  EXPECT_EQ(container().unmap_with_dirty_bitmap(some_iova, memory_.size(), bitmap),
            unmaps(memory_.size()));
}

TEST_P(DirtyTracking, EndsWithTheLastGroup) {
  start_tracking();
  client().device.close();
  ASSERT_EQ(client().group.unset_container(), succeeds);
  ASSERT_EQ(client().group.set_container(container()), succeeds);
  ASSERT_EQ(container().set_iommu(IommuType::Type1v2), succeeds);
  Bitmap bitmap(1);
  EXPECT_EQ(container().dirty_bitmap(some_iova, page, bitmap), fails(EINVAL));
}

TEST_P(DirtyTracking, UnmapsAndDmaGoOnAsEver) {
  start_tracking();
  expect_dma_works(container(), edu());
  ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  EXPECT_EQ(container().unmap(some_iova, memory_.size()), unmaps(memory_.size()));
}

TEST_P(DirtyTrackingV1, IsForV2Only) {
  for (const std::uint32_t flags : {start, stop, get, 0u})
    EXPECT_EQ(container().dirty_pages(flags), fails(EACCES));
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_DIRTY_PAGES), fails(EACCES));
}

} // namespace
