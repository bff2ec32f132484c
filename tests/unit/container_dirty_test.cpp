// SPDX-License-Identifier: MIT
/// @file
/// VFIO_IOMMU_DIRTY_PAGES and unmapping with a bitmap, on IOMMUs that track and others. What type1
/// answers to bad arguments is in tests/legacy.

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr Bytes page{0x1000};
constexpr Iova some_iova{0x100000};
constexpr std::uint64_t all = ~std::uint64_t{0};

constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;

using Bitmap = std::vector<std::uint64_t>;

constexpr Bytes pages(std::uint64_t count) {
  return Bytes{count * page.value};
}
constexpr Iova page_at(std::uint64_t number) {
  return some_iova + pages(number);
}

vfio_bitmap in(Bitmap &bitmap) {
  return bitmap_argument(address_of(bitmap.data()), bitmap.size() * sizeof(bitmap[0]));
}

class DirtyPages : public ContainerTest {
protected:
  explicit DirtyPages(bool can_track = true) { machine.can_track_dirty = can_track; }

  Answer tell(std::uint32_t flag) { return container.track_dirty(flag); }
  Answer get(Iova iova, Bytes size, Bitmap &bitmap) {
    return container.dirty_bitmap(iova, size, in(bitmap));
  }
  Answer map(Iova iova, Bytes size) { return container.map(iova, some_memory, size); }
  /// The first word that is got for @p count pages at some_iova.
  std::uint64_t dirty(std::uint64_t count = 64) {
    Bitmap bitmap(1);
    EXPECT_EQ(get(some_iova, pages(count), bitmap), succeeds);
    return bitmap[0];
  }
};

TEST_F(DirtyPages, AreThoseThatWereWrittenToSinceTheLastTime) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  machine.write_page(page_at(1));
  ASSERT_EQ(tell(start), succeeds);
  EXPECT_EQ(dirty(), 0U) << "nothing since the start";
  machine.write_page(page_at(3));
  machine.write_page(page_at(63));
  EXPECT_EQ(dirty(), 1ULL << 3 | 1ULL << 63);
  EXPECT_EQ(dirty(), 0U);
  machine.write_page(page_at(5));
  EXPECT_EQ(dirty(), 1ULL << 5);
}

TEST_F(DirtyPages, StartCleanEachTime) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(3));
  ASSERT_EQ(tell(stop), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  EXPECT_EQ(dirty(), 0U);
}

TEST_F(DirtyPages, SurviveASecondStart) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(3));
  ASSERT_EQ(tell(start), succeeds);
  EXPECT_EQ(dirty(), 8U);
}

TEST_F(DirtyPages, FindTheirPlaceAmongOtherMappings) {
  ASSERT_EQ(map(page_at(0), pages(3)), succeeds);
  ASSERT_EQ(map(page_at(3), pages(62)), succeeds);
  ASSERT_EQ(map(page_at(65), pages(1)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  for (const std::uint64_t number : {0, 2, 3, 63, 64, 65})
    machine.write_page(page_at(number));
  Bitmap bitmap(2);
  ASSERT_EQ(get(some_iova, pages(128), bitmap), succeeds);
  EXPECT_EQ(bitmap, (Bitmap{1 | 4 | 8 | 1ULL << 63, 3}));
}

TEST_F(DirtyPages, LeaveAMappingsNeighboursInTheBitmapAsType1Does) {
  ASSERT_EQ(map(page_at(3), pages(2)), succeeds);
  ASSERT_EQ(map(page_at(64), pages(2)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(4));
  Bitmap bitmap{0xf1, 0xff, 0xff};
  ASSERT_EQ(get(some_iova, pages(192), bitmap), succeeds);
  EXPECT_EQ(bitmap, (Bitmap{0xf1, 0, 0xff})) << "0xf1 has bit 4 already";
}

TEST_F(DirtyPages, ArriveWhereverTheBitmapIs) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(8));
  std::array<std::uint8_t, 17> bytes{};
  ASSERT_EQ(container.dirty_bitmap(some_iova, pages(64), bitmap_argument(address_of(&bytes[5]), 8)),
            succeeds);
  EXPECT_EQ(bytes[6], 1) << "bit 8, with the bitmap at an odd address";
}

TEST_F(DirtyPages, AreNotLostIfTheBitmapIsNotThere) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(3));
  const Pages guarded;
  EXPECT_EQ(
      container.dirty_bitmap(some_iova, pages(64), bitmap_argument(address_of(guarded.end()), 8)),
      fails(EFAULT));
  EXPECT_NE(dirty() & 8, 0U);
  EXPECT_EQ(dirty(), 0U);
}

TEST_F(DirtyPages, AreNotLostIfTheBackendFails) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(3));
  machine.fail_next("report_dirty", ENOMEM);
  Bitmap bitmap(1);
  EXPECT_EQ(get(some_iova, pages(64), bitmap), fails(ENOMEM));
  EXPECT_NE(dirty() & 8, 0U);
}

TEST_F(DirtyPages, AreAllOfThemWhenAGroupHasLeft) {
  GroupFile other = program.open_group(second_group);
  ASSERT_EQ(other.set_container(container), succeeds);
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  ASSERT_EQ(other.unset_container(), succeeds);
  EXPECT_EQ(dirty(), all) << "what only its IOMMU knew cannot be asked for any more";
  EXPECT_EQ(dirty(), 0U) << "but what remains can";
}

TEST_F(DirtyPages, OfALargeMappingComeInPieces) {
  const std::uint64_t count = 3 * (std::uint64_t{1} << 19) + 100;
  const std::uint64_t base = std::uint64_t{1} << 32; // In pages: clear of what is reserved.
  ASSERT_EQ(map(page_at(base + 7), pages(count)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  const std::vector<std::uint64_t> written{
      7, (1 << 19) + 6, (1 << 19) + 7, (1 << 20) + 6, (1 << 20) + 7, 7 + count - 1};
  for (const std::uint64_t number : written)
    machine.write_page(page_at(base + number));
  Bitmap bitmap((count + 7 + 63) / 64);
  ASSERT_EQ(get(page_at(base), pages(bitmap.size() * 64), bitmap), succeeds);
  std::vector<std::uint64_t> reported;
  for (std::uint64_t number = 0; number < bitmap.size() * 64; ++number)
    if ((bitmap[number / 64] >> number % 64 & 1) != 0)
      reported.push_back(number);
  EXPECT_EQ(reported, written);
}

TEST_F(DirtyPages, TrackingThatFailsToStartHasNotStarted) {
  ASSERT_EQ(map(some_iova, pages(64)), succeeds);
  machine.fail_next("track_dirty", ENOMEM);
  EXPECT_EQ(tell(start), fails(ENOMEM));
  Bitmap bitmap(1);
  EXPECT_EQ(get(some_iova, pages(64), bitmap), fails(EINVAL));
}

TEST_F(DirtyPages, TrackingEndsWithTheAddressSpace) {
  ASSERT_EQ(tell(start), succeeds);
  ASSERT_EQ(group->unset_container(), succeeds);
  ASSERT_EQ(group->set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(), succeeds);
  Bitmap bitmap(1);
  EXPECT_EQ(get(some_iova, pages(64), bitmap), fails(EINVAL));
}

constexpr Bytes too_large = pages(std::uint64_t{1} << 31);

TEST_F(DirtyPages, OfMoreThanAnIntCanCountAreNotTracked) {
  const Iova high{std::uint64_t{1} << 40};
  ASSERT_EQ(map(high, too_large), succeeds);
  EXPECT_EQ(tell(start), fails(EINVAL));
  ASSERT_EQ(container.unmap_all(), answers(static_cast<std::int64_t>(too_large.value)));
  ASSERT_EQ(tell(start), succeeds);
  EXPECT_EQ(map(high, too_large), fails(EINVAL));
  EXPECT_TRUE(machine.mapped().empty());
}

TEST_F(DirtyPages, ComeWithAnUnmap) {
  ASSERT_EQ(map(page_at(0), pages(2)), succeeds);
  ASSERT_EQ(map(page_at(3), pages(2)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  machine.write_page(page_at(1));
  machine.write_page(page_at(3));
  machine.log.clear();
  Bitmap bitmap(1);
  EXPECT_EQ(container.unmap_with_bitmap(some_iova, pages(64), in(bitmap)), answers(4 * 0x1000));
  EXPECT_EQ(bitmap[0], 2U | 8U);
  EXPECT_EQ(machine.log,
            (std::vector<std::string>{"unmap [0x100000, 0x101fff]", "unmap [0x103000, 0x104fff]"}))
      << "one by one, each right after its report";
}

TEST_F(DirtyPages, UnmapsNoMoreThanItCanReport) {
  ASSERT_EQ(map(page_at(0), pages(64)), succeeds);
  ASSERT_EQ(map(page_at(64), pages(64)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  const Pages guarded;
  const auto bitmap = bitmap_argument(address_of(guarded.end() - 8), 16);
  EXPECT_EQ(container.unmap_with_bitmap(some_iova, pages(128), bitmap), fails(EFAULT));
  EXPECT_EQ(machine.mapped(),
            (std::vector<IovaRange>{{page_at(64), Iova{page_at(128).value - 1}}}));
  EXPECT_EQ(container.info().available, 65534U);
}

TEST_F(DirtyPages, OfEverythingAreNotGivenByAnUnmap) {
  ASSERT_EQ(tell(start), succeeds);
  auto request = unmap_request(Iova{0}, Bytes{0},
                               VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  EXPECT_EQ(container.call(VFIO_IOMMU_UNMAP_DMA, &request), fails(EINVAL));
}

/// IOMMUs that do not track.
class PagesOfUnknownState : public DirtyPages {
protected:
  PagesOfUnknownState() : DirtyPages(false) {}
};

TEST_F(PagesOfUnknownState, AreDirtyEveryTime) {
  ASSERT_EQ(map(some_iova, pages(3)), succeeds);
  ASSERT_EQ(tell(start), succeeds);
  EXPECT_EQ(dirty(), 7U);
  EXPECT_EQ(dirty(), 7U);
  Bitmap bitmap(1);
  EXPECT_EQ(container.unmap_with_bitmap(some_iova, pages(3), in(bitmap)), answers(3 * 0x1000));
  EXPECT_EQ(bitmap[0], 7U);
}

} // namespace
} // namespace vfio_shim::test
