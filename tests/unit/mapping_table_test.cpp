// SPDX-License-Identifier: MIT
#include "rules/mapping_table.hpp"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "support/answer.hpp"

namespace vfio_shim::rules {
namespace {

using test::Answer;
using test::answer_of;
using test::answers;
using test::fails;
using test::succeeds;

constexpr std::uint64_t K4 = 0x1000;
constexpr std::uint64_t M2 = 0x200000;
constexpr std::uint64_t top = UINT64_MAX;
constexpr Access both{.read = true, .write = true};

/// A table with x86's address space, and calls that do what a container does with it.
class MappingTableTest : public testing::Test {
protected:
  AddressSpace space{
      .usable = {{Iova{0}, Iova{0xfedfffff}}, {Iova{0xfef00000}, Iova{0xffffffffffff}}},
      .page_sizes = K4 | M2};
  MappingTable table{100};
  Version version = Version::v2;

  Answer map(std::uint64_t iova, std::uint64_t size, std::uint64_t vaddr = 0x10000,
             Access access = both) {
    const MapRequest request{
        .iova = Iova{iova}, .vaddr = ClientAddr{vaddr}, .size = Bytes{size}, .access = access};
    const auto checked = table.check_map(request, space);
    if (checked)
      table.insert(MappingTable::entry_of(request, ++last_record_));
    return answer_of(checked);
  }

  /// Answers how many bytes went.
  Answer unmap(std::uint64_t iova, std::uint64_t size) {
    const auto run = table.find_unmap(Iova{iova}, Bytes{size}, space.page_size(), version);
    if (!run)
      return answer_of(run);
    table.erase(*run);
    return answers(static_cast<std::int64_t>(run->size.value));
  }

  std::vector<std::uint64_t> left() {
    std::vector<std::uint64_t> first_iovas;
    const auto run = table.all();
    for (auto mapping = run.begin; mapping != run.end; ++mapping)
      first_iovas.push_back(mapping->first.value);
    return first_iovas;
  }

private:
  std::uint32_t last_record_ = 0;
};

using Left = std::vector<std::uint64_t>;

class Map : public MappingTableTest {
protected:
  void make_everything_usable() { space.usable = {{Iova{0}, Iova{top}}}; }
};

TEST_F(Map, TakesAnAlignedUsableRange) {
  EXPECT_EQ(map(0x1000, K4), succeeds);
  EXPECT_EQ(map(0x200000, 16 * M2), succeeds);
  EXPECT_EQ(left(), (Left{0x1000, 0x200000}));
}

TEST_F(Map, RemembersWhatWasMapped) {
  ASSERT_EQ(map(0x1000, 0x3000, 0x7f0000, {.read = true, .write = false}), succeeds);
  const auto run = table.all();
  ASSERT_FALSE(run.empty());
  EXPECT_EQ(run.begin->first, Iova{0x1000});
  EXPECT_EQ(run.begin->second.vaddr, ClientAddr{0x7f0000});
  EXPECT_EQ(run.begin->second.size, Bytes{0x3000});
  EXPECT_EQ(run.begin->second.access, (Access{.read = true, .write = false}));
  EXPECT_EQ(run.begin->second.record, 1U);
}

TEST_F(Map, TakesReadOnlyAndWriteOnly) {
  EXPECT_EQ(map(0x1000, K4, 0x1000, {.read = true, .write = false}), succeeds);
  EXPECT_EQ(map(0x2000, K4, 0x1000, {.read = false, .write = true}), succeeds);
}

TEST_F(Map, RefusesNoAccess) {
  EXPECT_EQ(map(0x1000, K4, 0x1000, {}), fails(EINVAL));
}

TEST_F(Map, RefusesSizeZero) {
  EXPECT_EQ(map(0, 0), fails(EINVAL));
  EXPECT_EQ(map(top, 0), fails(EINVAL));
}

TEST_F(Map, RefusesWhatIsNotAligned) {
  EXPECT_EQ(map(0x1001, K4), fails(EINVAL));
  EXPECT_EQ(map(0x1800, K4), fails(EINVAL));
  EXPECT_EQ(map(0x1000, K4, 0x10001), fails(EINVAL));
  EXPECT_EQ(map(0x1000, K4, 0x10800), fails(EINVAL));
  EXPECT_EQ(map(0x1000, K4 - 1), fails(EINVAL));
  EXPECT_EQ(map(0x1000, K4 + 1), fails(EINVAL));
  EXPECT_EQ(map(0x1000, 1), fails(EINVAL));
}

TEST_F(Map, AlignsToTheSmallestPageOfTheIommu) {
  space.page_sizes = M2 | (1ULL << 30);
  EXPECT_EQ(map(K4, M2), fails(EINVAL));
  EXPECT_EQ(map(M2, K4), fails(EINVAL));
  EXPECT_EQ(map(M2, M2, K4), fails(EINVAL));
  EXPECT_EQ(map(M2, M2, M2), succeeds);
}

TEST_F(Map, RefusesToGoPastTheEndOfTheIovas) {
  make_everything_usable();
  EXPECT_EQ(map(top - K4 + 1, 2 * K4), fails(EOVERFLOW));
  EXPECT_EQ(map(2 * K4, top - K4 + 1, 0), fails(EOVERFLOW));
}

TEST_F(Map, TakesTheLastPageOfTheIovas) {
  make_everything_usable();
  EXPECT_EQ(map(top - K4 + 1, K4), succeeds);
  EXPECT_EQ(left(), (Left{top - K4 + 1}));
}

TEST_F(Map, TakesAllButOnePageOfTheIovas) {
  make_everything_usable();
  EXPECT_EQ(map(K4, top - K4 + 1, K4), succeeds);
  EXPECT_EQ(map(0, K4), succeeds);
  EXPECT_EQ(map(top - K4 + 1, K4), fails(EEXIST));
}

TEST_F(Map, RefusesToGoPastTheEndOfTheMemory) {
  EXPECT_EQ(map(0x1000, 2 * K4, top - K4 + 1), fails(EOVERFLOW));
  EXPECT_EQ(map(0x1000, K4, top - K4 + 1), succeeds) << "the last page itself is not past it";
}

TEST_F(Map, ChecksForOverflowBeforeAccessAndAlignment) {
  EXPECT_EQ(map(top - K4 + 1, 2 * K4, 0x1000, {}), fails(EOVERFLOW));
  EXPECT_EQ(map(top, 2), fails(EOVERFLOW));
  EXPECT_EQ(map(0x1000, K4, top), fails(EOVERFLOW));
}

TEST_F(Map, RefusesWhateverOverlaps) {
  ASSERT_EQ(map(0x10000, 4 * K4), succeeds);
  EXPECT_EQ(map(0x10000, 4 * K4), fails(EEXIST)) << "the same";
  EXPECT_EQ(map(0x11000, K4), fails(EEXIST)) << "inside";
  EXPECT_EQ(map(0x10000, K4), fails(EEXIST)) << "its first page";
  EXPECT_EQ(map(0x13000, K4), fails(EEXIST)) << "its last page";
  EXPECT_EQ(map(0xf000, 2 * K4), fails(EEXIST)) << "from below";
  EXPECT_EQ(map(0x13000, 2 * K4), fails(EEXIST)) << "to above";
  EXPECT_EQ(map(0xf000, 6 * K4), fails(EEXIST)) << "all around";
  EXPECT_EQ(left(), (Left{0x10000}));
}

TEST_F(Map, TakesNeighbours) {
  ASSERT_EQ(map(0x10000, 2 * K4), succeeds);
  EXPECT_EQ(map(0xf000, K4), succeeds);
  EXPECT_EQ(map(0x12000, K4), succeeds);
}

TEST_F(Map, FindsAnOverlapWithTheSecondOfTwoNeighbours) {
  ASSERT_EQ(map(0x10000, K4), succeeds);
  ASSERT_EQ(map(0x20000, K4), succeeds);
  EXPECT_EQ(map(0x11000, 0x10000), fails(EEXIST));
  EXPECT_EQ(map(0x11000, 0xf000), succeeds);
}

TEST_F(Map, TakesTheSameMemoryTwice) {
  EXPECT_EQ(map(0x10000, K4, 0x7000), succeeds);
  EXPECT_EQ(map(0x20000, K4, 0x7000), succeeds);
}

TEST_F(Map, RefusesReservedIovas) {
  EXPECT_EQ(map(0xfee00000, K4), fails(EINVAL)) << "the first reserved page";
  EXPECT_EQ(map(0xfeeff000, K4), fails(EINVAL)) << "the last reserved page";
  EXPECT_EQ(map(0xfedff000, 2 * K4), fails(EINVAL)) << "from below";
  EXPECT_EQ(map(0xfeeff000, 2 * K4), fails(EINVAL)) << "to above";
  EXPECT_EQ(map(0xfe000000, 0x2000000), fails(EINVAL)) << "all around";
  EXPECT_EQ(map(0xfedff000, K4), succeeds) << "the page before";
  EXPECT_EQ(map(0xfef00000, K4), succeeds) << "the page behind";
}

TEST_F(Map, RefusesIovasBeyondTheIommusWidth) {
  EXPECT_EQ(map(1ULL << 48, K4), fails(EINVAL));
  EXPECT_EQ(map((1ULL << 48) - K4, 2 * K4), fails(EINVAL));
  EXPECT_EQ(map((1ULL << 48) - K4, K4), succeeds);
}

TEST_F(Map, RefusesARangeThatTwoUsableNeighboursCoverOnlyTogether) {
  space.usable = {{Iova{0}, Iova{0xffff}}, {Iova{0x10000}, Iova{0x1ffff}}};
  EXPECT_EQ(map(0xf000, 2 * K4), fails(EINVAL)) << "type1 asks each range by itself";
}

TEST_F(Map, RefusesMoreThanTheLimit) {
  table = MappingTable(2);
  EXPECT_EQ(map(0x1000, K4), succeeds);
  EXPECT_EQ(map(0x2000, K4), succeeds);
  EXPECT_EQ(map(0x3000, K4), fails(ENOSPC));
  ASSERT_EQ(unmap(0x1000, K4), answers(K4));
  EXPECT_EQ(map(0x3000, K4), succeeds);
}

TEST_F(Map, TakesNothingWithALimitOfZero) {
  table = MappingTable(0);
  EXPECT_EQ(map(0x1000, K4), fails(ENOSPC));
}

TEST_F(Map, ChecksForOverlapThenTheLimitThenTheRange) {
  table = MappingTable(1);
  ASSERT_EQ(map(0xfedff000, K4), succeeds);
  EXPECT_EQ(map(0xfedff000, 2 * K4), fails(EEXIST)) << "also full, and reserved";
  EXPECT_EQ(map(0xfee00000, K4), fails(ENOSPC)) << "also reserved";
}

TEST_F(Map, CountsDownWhatIsAvailable) {
  table = MappingTable(65535);
  EXPECT_EQ(table.available(), 65535U);
  ASSERT_EQ(map(0x1000, K4), succeeds);
  EXPECT_EQ(table.available(), 65534U);
  EXPECT_EQ(map(0x1000, K4), fails(EEXIST));
  EXPECT_EQ(table.available(), 65534U) << "a refused mapping counts nothing";
  ASSERT_EQ(unmap(0x1000, K4), answers(K4));
  EXPECT_EQ(table.available(), 65535U);
}

/// Rules that both versions of type1 share.
class Unmap : public MappingTableTest, public testing::WithParamInterface<Version> {
protected:
  void SetUp() override { version = GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(, Unmap, testing::Values(Version::v1, Version::v2),
                         [](const auto &info) { return info.param == Version::v1 ? "v1" : "v2"; });

TEST_P(Unmap, TakesExactlyWhatWasMapped) {
  ASSERT_EQ(map(0x10000, 4 * K4), succeeds);
  EXPECT_EQ(unmap(0x10000, 4 * K4), answers(4 * K4));
  EXPECT_TRUE(table.empty());
}

TEST_P(Unmap, OfNothingIsASuccessOfSizeZero) {
  EXPECT_EQ(unmap(0x10000, 4 * K4), answers(0));
  ASSERT_EQ(map(0x20000, K4), succeeds);
  EXPECT_EQ(unmap(0x10000, 0x10000), answers(0)) << "right below a mapping";
  EXPECT_EQ(unmap(0x21000, 0x10000), answers(0)) << "right behind a mapping";
  EXPECT_EQ(left(), (Left{0x20000}));
}

TEST_P(Unmap, MayReachFurtherThanTheMapping) {
  ASSERT_EQ(map(0x10000, K4), succeeds);
  EXPECT_EQ(unmap(0, 0x100000), answers(K4));
}

TEST_P(Unmap, TakesARunOfMappingsWithHolesBetweenThem) {
  ASSERT_EQ(map(0x10000, K4), succeeds);
  ASSERT_EQ(map(0x20000, 2 * K4), succeeds);
  ASSERT_EQ(map(0x22000, K4), succeeds);
  ASSERT_EQ(map(0x40000, K4), succeeds);
  EXPECT_EQ(unmap(0x10000, 0x20000), answers(4 * K4));
  EXPECT_EQ(left(), (Left{0x40000}));
}

TEST_P(Unmap, SaysFromWhereToWhereItsRunReaches) {
  ASSERT_EQ(map(0x10000, K4), succeeds);
  ASSERT_EQ(map(0x20000, 2 * K4), succeeds);
  const auto run = table.find_unmap(Iova{0x8000}, Bytes{0x100000}, Bytes{K4}, version);
  ASSERT_EQ(answer_of(run), succeeds);
  EXPECT_EQ(run->range(), (IovaRange{Iova{0x10000}, Iova{0x21fff}}));
}

TEST_P(Unmap, FindsWithoutTaking) {
  ASSERT_EQ(map(0x10000, K4), succeeds);
  ASSERT_EQ(answer_of(table.find_unmap(Iova{0x10000}, Bytes{K4}, Bytes{K4}, version)), succeeds);
  EXPECT_EQ(left(), (Left{0x10000}));
}

TEST_P(Unmap, RefusesSizeZero) {
  ASSERT_EQ(map(0, K4), succeeds);
  EXPECT_EQ(unmap(0, 0), fails(EINVAL));
}

TEST_P(Unmap, RefusesWhatIsNotAligned) {
  ASSERT_EQ(map(0x10000, 2 * K4), succeeds);
  EXPECT_EQ(unmap(0x10001, K4), fails(EINVAL));
  EXPECT_EQ(unmap(0x10000, K4 + 1), fails(EINVAL));
  EXPECT_EQ(unmap(0x10000, 2 * K4 - 1), fails(EINVAL));
}

TEST_P(Unmap, RefusesToGoPastTheEnd) {
  EXPECT_EQ(unmap(top - K4 + 1, 2 * K4), fails(EOVERFLOW));
  EXPECT_EQ(unmap(K4, top - K4 + 1), answers(0)) << "up to the end is not past it";
}

TEST_P(Unmap, ChecksAlignmentBeforeOverflow) {
  EXPECT_EQ(unmap(top, 2 * K4), fails(EINVAL));
  EXPECT_EQ(unmap(top - K4 + 1, 2 * K4 + 1), fails(EINVAL));
}

TEST_P(Unmap, TakesTheLastPageOfTheIovas) {
  space.usable = {{Iova{0}, Iova{top}}};
  ASSERT_EQ(map(top - K4 + 1, K4), succeeds);
  EXPECT_EQ(unmap(top - 2 * K4 + 1, K4), answers(0));
  EXPECT_EQ(unmap(top - K4 + 1, K4), answers(K4));
  EXPECT_TRUE(table.empty());
}

TEST_P(Unmap, TakesALargeMappingAtTheTop) {
  space.usable = {{Iova{0}, Iova{top}}};
  ASSERT_EQ(map(1ULL << 63, 1ULL << 63, 0), succeeds);
  const auto run = table.find_unmap(Iova{1ULL << 63}, Bytes{1ULL << 63}, Bytes{K4}, version);
  ASSERT_EQ(answer_of(run), answers(0));
  EXPECT_EQ(run->size, Bytes{1ULL << 63});
  EXPECT_EQ(run->range(), (IovaRange{Iova{1ULL << 63}, Iova{top}}));
}

TEST_P(Unmap, OfEverythingTakesEverything) {
  ASSERT_EQ(map(0, K4), succeeds);
  ASSERT_EQ(map(0x20000, 3 * K4), succeeds);
  const auto run = table.all();
  EXPECT_EQ(run.size, Bytes{4 * K4});
  EXPECT_EQ(run.range(), (IovaRange{Iova{0}, Iova{0x22fff}}));
  table.erase(run);
  EXPECT_TRUE(table.empty());
  EXPECT_TRUE(table.all().empty());
}

/// Version 2: a range must not cut a mapping in two.
class UnmapV2 : public MappingTableTest {
protected:
  void SetUp() override { ASSERT_EQ(map(0x10000, 4 * K4), succeeds); }
};

TEST_F(UnmapV2, RefusesARangeInsideAMapping) {
  EXPECT_EQ(unmap(0x11000, K4), fails(EINVAL));
  EXPECT_EQ(left(), (Left{0x10000}));
}

TEST_F(UnmapV2, RefusesARangeThatStartsInsideAMapping) {
  EXPECT_EQ(unmap(0x11000, 3 * K4), fails(EINVAL));
  EXPECT_EQ(unmap(0x13000, 16 * K4), fails(EINVAL));
}

TEST_F(UnmapV2, RefusesARangeThatEndsInsideAMapping) {
  EXPECT_EQ(unmap(0x10000, K4), fails(EINVAL));
  EXPECT_EQ(unmap(0xf000, 2 * K4), fails(EINVAL));
}

TEST_F(UnmapV2, RefusesToCutTheLastOfARun) {
  ASSERT_EQ(map(0x20000, 2 * K4), succeeds);
  EXPECT_EQ(unmap(0x10000, 0x11000), fails(EINVAL));
  EXPECT_EQ(left(), (Left{0x10000, 0x20000})) << "and takes none of the run";
}

TEST_F(UnmapV2, RefusesToCutAMappingAtTheTop) {
  space.usable = {{Iova{0}, Iova{top}}};
  ASSERT_EQ(map(top - 2 * K4 + 1, 2 * K4), succeeds);
  EXPECT_EQ(unmap(top - K4 + 1, K4), fails(EINVAL));
  EXPECT_EQ(unmap(top - 2 * K4 + 1, K4), fails(EINVAL));
}

/// Version 1: a mapping goes as a whole, if its first IOVA is in the range.
class UnmapV1 : public MappingTableTest {
protected:
  void SetUp() override {
    version = Version::v1;
    ASSERT_EQ(map(0x10000, 4 * K4), succeeds);
  }
};

TEST_F(UnmapV1, TakesTheWholeMappingByItsFirstPage) {
  EXPECT_EQ(unmap(0x10000, K4), answers(4 * K4));
  EXPECT_TRUE(table.empty());
}

TEST_F(UnmapV1, TakesTheWholeMappingByARangeThatEndsInsideIt) {
  EXPECT_EQ(unmap(0xf000, 2 * K4), answers(4 * K4));
}

TEST_F(UnmapV1, TakesNothingFromInsideAMapping) {
  EXPECT_EQ(unmap(0x11000, K4), answers(0));
  EXPECT_EQ(unmap(0x13000, K4), answers(0));
  EXPECT_EQ(left(), (Left{0x10000}));
}

TEST_F(UnmapV1, TakesNothingAtAllIfTheRangeStartsInsideAMapping) {
  ASSERT_EQ(map(0x20000, K4), succeeds);
  EXPECT_EQ(unmap(0x11000, 0x10000), answers(0)) << "although all of the second one is covered";
  EXPECT_EQ(left(), (Left{0x10000, 0x20000}));
}

TEST_F(UnmapV1, TakesTheWholeOfTheLastOfARun) {
  ASSERT_EQ(map(0x20000, 8 * K4), succeeds);
  EXPECT_EQ(unmap(0x10000, 0x11000), answers(12 * K4));
  EXPECT_TRUE(table.empty());
}

TEST_F(UnmapV1, SaysHowFarTheWholeMappingsReach) {
  const auto run = table.find_unmap(Iova{0x10000}, Bytes{K4}, Bytes{K4}, version);
  ASSERT_EQ(answer_of(run), succeeds);
  EXPECT_EQ(run->range(), (IovaRange{Iova{0x10000}, Iova{0x13fff}}));
}

TEST(MappingTable, IsEmptyAfterClear) {
  MappingTable table(2);
  table.insert(MappingTable::entry_of(
      {.iova = Iova{0}, .vaddr = ClientAddr{0}, .size = Bytes{K4}, .access = both}));
  table.clear();
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.available(), 2U);
}

} // namespace
} // namespace vfio_shim::rules
