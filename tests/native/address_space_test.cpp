// SPDX-License-Identifier: MIT
// What the container says can be mapped, and what can.

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

/// The IOMMU of the test machine translates 48 bits.
constexpr Iova last_iova{(1ULL << 48) - 1};

class NativeAddressSpace : public NativeContainerTest {
protected:
  Answer map_page(std::uint64_t iova) {
    return container.map(Iova{iova}, address_of(memory), page);
  }

  legacy::Memory memory{legacy::page * 2};
};

TEST_F(NativeAddressSpace, HasAHoleForInterrupts) {
  const auto usable = container.info().usable;
  ASSERT_GE(usable.size(), 2U);
  EXPECT_EQ(usable.front().first, Iova{0});
  EXPECT_EQ(usable.front().last, Iova{0xfedfffff});
  EXPECT_EQ(usable[1].first, Iova{0xfef00000});
}

TEST_F(NativeAddressSpace, IsOrderedAndDisjoint) {
  const auto usable = container.info().usable;
  for (std::size_t i = 0; i < usable.size(); ++i) {
    EXPECT_LE(usable[i].first, usable[i].last);
    if (i != 0) {
      EXPECT_LT(usable[i - 1].last, usable[i].first);
    }
  }
}

TEST_F(NativeAddressSpace, CanBeMappedUpToItsEdges) {
  for (const IovaRange &range : container.info().usable) {
    EXPECT_EQ(map_page(range.first.value), succeeds) << fmt::format("{}", range);
    EXPECT_EQ(map_page(range.last.value - page.value + 1), succeeds) << fmt::format("{}", range);
  }
}

TEST_F(NativeAddressSpace, CannotBeMappedBeyondItsEdges) {
  for (const IovaRange &range : container.info().usable) {
    if (range.first.value != 0) {
      EXPECT_EQ(map_page(range.first.value - page.value), fails(EINVAL))
          << fmt::format("{}", range);
    }
    if (range.last.value != UINT64_MAX) {
      EXPECT_EQ(map_page(range.last.value + 1), fails(EINVAL)) << fmt::format("{}", range);
    }
  }
}

TEST_F(NativeAddressSpace, EndsWhereTheIommuDoes) {
  EXPECT_EQ(container.info().usable.back().last, last_iova);
}

TEST_F(NativeAddressSpace, IsReachedByTheDeviceAboveAndBelowTheHole) {
  // The first edu's engine takes 48 bits of addresses.
  const OpenEdu device{group->device(edus[0].address)};
  for (const std::uint64_t iova : {0xfedfe000UL, 0xfef00000UL, last_iova.value - 0x1fff}) {
    ASSERT_EQ(map(Iova{iova}, memory), succeeds);
    EXPECT_TRUE(dma_works(device.edu(), memory, Iova{iova})) << std::hex << iova;
  }
}

TEST_F(NativeAddressSpace, HasSmallAndHugePages) {
  const std::uint64_t sizes = container.info().head.iova_pgsizes;
  EXPECT_NE(sizes & 0x1000, 0U);
  EXPECT_NE(sizes & 0x200000, 0U);
  EXPECT_EQ(sizes & 0xfff, 0U) << "nothing below the CPU's pages";
  EXPECT_EQ(container.map(some_iova, address_of(memory), Bytes{0x800}), fails(EINVAL));
}

TEST_F(NativeAddressSpace, TakesAnyNumberOfSmallPages) {
  const legacy::Memory odd{legacy::page * 517};
  ASSERT_EQ(map(some_iova, odd), succeeds);
  EXPECT_EQ(container.unmap(some_iova, size_of(odd)), answers(517 * 0x1000));
}

TEST_F(NativeAddressSpace, EnforcesCoherencyOrSaysNot) {
  const Answer coherent = container.check_extension(VFIO_DMA_CC_IOMMU);
  EXPECT_TRUE(coherent == answers(0) || coherent == answers(1)) << coherent;
}

TEST_F(NativeAddressSpace, UnmapsNothingSuccessfully) {
  EXPECT_EQ(container.unmap(some_iova, page), answers(0));
  EXPECT_EQ(container.unmap(Iova{0}, Bytes{UINT64_MAX - 0xfff}), answers(0));
  EXPECT_EQ(container.unmap_all(), answers(0));
}

TEST_F(NativeAddressSpace, UnmapsSeveralMappingsAtOnce) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  ASSERT_EQ(map(other_iova, memory), succeeds);
  ASSERT_EQ(map(Iova{0xfef00000}, memory), succeeds);
  EXPECT_EQ(container.unmap(Iova{0}, Bytes{0x10000000}), answers(0x4000));
  EXPECT_EQ(map(some_iova, memory), succeeds) << "its place is free";
  EXPECT_EQ(container.unmap_all(), answers(0x4000));
}

TEST_F(NativeAddressSpace, TakesAThousandMappings) {
  for (std::uint64_t i = 0; i < 1000; ++i)
    ASSERT_EQ(map_page(some_iova.value + i * 0x1000), succeeds) << i;
  EXPECT_EQ(container.info().available, 65535U - 1000);
  EXPECT_EQ(container.unmap_all(), answers(1000 * 0x1000));
}

} // namespace
} // namespace vfio_shim::test
