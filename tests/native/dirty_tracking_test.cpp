// SPDX-License-Identifier: MIT
// Dirty tracking by an IOMMU that can: VFIO_IOMMU_DIRTY_PAGES, all the way down to the page tables
// of iommufd's mock IOMMU.

#include <array>

#include <sys/mman.h>

#include "support/mock_backend.hpp"
#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr GroupId one_group{1};
constexpr GroupId other_group{2};
constexpr std::uint64_t page_count = 192;

using Bitmap = std::vector<std::uint64_t>;
constexpr std::uint64_t all = ~std::uint64_t{0};

constexpr Iova page_at(std::uint64_t number) {
  return Iova{MockBackend::aperture.value + number * page.value};
}

/// Memory each page of which is the same page of a file: the page tables cannot join any two.
class RepeatedPage {
public:
  RepeatedPage() {
    for (std::uint64_t number = 0; number < page_count; ++number)
      EXPECT_NE(::mmap(memory_.at(legacy::page * number), page.value, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, file_.number(), 0),
                MAP_FAILED);
  }
  ClientAddr start() const { return address_of(memory_); }

private:
  legacy::Fd file_ = legacy::make_memfd(legacy::page);
  legacy::Memory memory_{legacy::page * page_count};
};

/// A container on mock IOMMUs.
class NativeDirtyTracking : public testing::Test {
protected:
  void TearDown() override {
    for (const auto &[group, member] : joined_)
      container_.container().leave(*member);
  }

  void join(GroupId group) {
    auto member = container_.container().join({.id = group, .devices = {}}, 0);
    ASSERT_TRUE(member) << member.error().describe();
    joined_.emplace(group, std::move(*member));
  }
  void leave(GroupId group) {
    container_.container().leave(*joined_.at(group));
    joined_.erase(group);
  }
  /// One mapping of @p count pages, from page @p first on.
  void map(std::uint64_t first, std::uint64_t count) {
    ASSERT_EQ(container_.map(page_at(first), memory_.start(), Bytes{count * page.value}), succeeds);
  }
  void start() { ASSERT_EQ(container_.track_dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), succeeds); }
  void write(GroupId group, const std::vector<std::uint64_t> &pages) {
    std::vector<Iova> iovas;
    for (const std::uint64_t number : pages)
      iovas.push_back(page_at(number));
    backend_->write(group, iovas);
  }
  Bitmap dirty() {
    Bitmap bitmap(page_count / 64);
    EXPECT_EQ(container_.dirty_bitmap(page_at(0), Bytes{page_count * page.value}, in(bitmap)),
              succeeds);
    return bitmap;
  }
  static vfio_bitmap in(Bitmap &bitmap) {
    return bitmap_argument(address_of(bitmap.data()), bitmap.size() * sizeof(bitmap[0]));
  }

  RepeatedPage memory_;
  MockBackend *backend_ = nullptr; ///< While a group has joined.
  Program program_{{.make_backend = [this]() -> Result<std::unique_ptr<Backend>> {
                     auto made = MockBackend::create();
                     if (!made)
                       return pass_on(made);
                     backend_ = made->get();
                     return std::move(*made);
                   }},
                   {}};
  ContainerFile container_ = program_.open_container();

private:
  std::map<GroupId, std::shared_ptr<Membership>> joined_;
};

/// One group, whose IOMMU tracks.
class NativeDirtyPages : public NativeDirtyTracking {
protected:
  void SetUp() override {
    join(one_group);
    ASSERT_EQ(container_.set_iommu(), succeeds);
  }
};

TEST_F(NativeDirtyPages, AreThoseThatTheDeviceWroteToSinceTheLastTime) {
  map(0, page_count);
  start();
  EXPECT_EQ(dirty(), (Bitmap{0, 0, 0}));
  write(one_group, {0, 5, 64, 191});
  EXPECT_EQ(dirty(), (Bitmap{1 | 32, 1, 1ULL << 63}));
  EXPECT_EQ(dirty(), (Bitmap{0, 0, 0})) << "they were reported";
  write(one_group, {5});
  EXPECT_EQ(dirty(), (Bitmap{32, 0, 0}));
}

TEST_F(NativeDirtyPages, FindTheirPlaceWhateverTheMappings) {
  map(0, 3);
  map(3, 62);
  map(70, 100);
  start();
  write(one_group, {2, 3, 64, 70, 127, 128, 169});
  EXPECT_EQ(dirty(), (Bitmap{4 | 8, 1 | 64 | 1ULL << 63, 1 | 1ULL << 41}));
}

TEST_F(NativeDirtyPages, IncludeThoseOfWhatWasMappedMeanwhile) {
  start();
  map(0, 64);
  EXPECT_EQ(dirty(), (Bitmap{0, 0, 0}));
  write(one_group, {7});
  EXPECT_EQ(dirty(), (Bitmap{128, 0, 0}));
}

TEST_F(NativeDirtyPages, StartCleanAgain) {
  map(0, 64);
  start();
  write(one_group, {7});
  ASSERT_EQ(container_.track_dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), succeeds);
  start();
  EXPECT_EQ(dirty(), (Bitmap{0, 0, 0}));
}

TEST_F(NativeDirtyPages, ComeWithAnUnmap) {
  map(0, 64);
  map(64, 64);
  start();
  write(one_group, {1, 65, 66});
  Bitmap bitmap(2);
  EXPECT_EQ(container_.unmap_with_bitmap(page_at(0), Bytes{128 * page.value}, in(bitmap)),
            answers(128 * 4096));
  EXPECT_EQ(bitmap, (Bitmap{2, 6}));
  EXPECT_EQ(container_.unmap_all(), answers(0));
}

TEST_F(NativeDirtyPages, OfTwoIommusAreThoseOfEither) {
  join(other_group);
  map(0, 64);
  start();
  write(one_group, {1, 2});
  write(other_group, {2, 3});
  EXPECT_EQ(dirty(), (Bitmap{2 | 4 | 8, 0, 0}));
}

TEST_F(NativeDirtyPages, AreAllOfThemIfOneIommuCannotTell) {
  map(0, 70);
  join(MockBackend::untracked_group);
  start();
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(dirty(), (Bitmap{all, 63, 0}));
  leave(MockBackend::untracked_group);
  EXPECT_EQ(dirty(), (Bitmap{all, 63, 0})) << "once more, when it leaves";
  write(one_group, {9});
  EXPECT_EQ(dirty(), (Bitmap{512, 0, 0})) << "and then what the other one says";
}

TEST_F(NativeDirtyPages, AreNotLostWithTheIommuThatSawThem) {
  join(other_group);
  map(0, 64);
  start();
  write(other_group, {3});
  leave(other_group);
  EXPECT_EQ(dirty()[0] & 8, 8U);
}

/// What a client does with PASIDs is between it and the kernel, as long as our domain allows it.
TEST_F(NativeDirtyPages, PasidsCanBeAttachedWhereTheDeviceHasSome) {
  join(MockBackend::pasid_group);
  EXPECT_EQ(answer_of(backend_->attach_pasid(MockBackend::pasid_group, 100)), succeeds);
  start();
  map(0, 64);
  write(MockBackend::pasid_group, {3});
  EXPECT_EQ(dirty()[0], 8U) << "and dirty pages are tracked all the same";
}

} // namespace
} // namespace vfio_shim::test
