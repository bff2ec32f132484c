// SPDX-License-Identifier: MIT
// VFIO_IOMMU_MAP_DMA: every rule about its argument and about the IOVA.

#include <cerrno>
#include <cstddef>

#include "suite.h"

namespace {

using namespace legacy;

constexpr Bytes smallest{offsetof(vfio_iommu_type1_dma_map, size) + sizeof(__u64)};
constexpr Iova top_page{~std::uint64_t{0} - page.count + 1};

class MapSuite : public AttachedSuite {
protected:
  const Memory memory_{page * 4};

  Answer map(const vfio_iommu_type1_dma_map &request) {
    return container().fd().ioctl(VFIO_IOMMU_MAP_DMA, &request);
  }
  vfio_iommu_type1_dma_map good() { return map_request(some_iova, memory_.data(), memory_.size()); }
  void TearDown() override {
    if (attached()) {
      EXPECT_EQ(container().unmap_all(), unmaps(mapped_at_the_end_)) << "mapped at the end";
    }
    AttachedSuite::TearDown();
  }

  Bytes mapped_at_the_end_{0};
};

LEGACY_SUITE(MapRules, MapSuite);

TEST_P(MapRules, MapsAndTellsNothing) {
  const auto request = good();
  EXPECT_EQ(map(request), succeeds);
  mapped_at_the_end_ = memory_.size();
}

TEST_P(MapRules, ArgszBelowTheStructIsInvalid) {
  for (const std::uint32_t argsz : {0u, 4u, 31u}) {
    auto request = good();
    request.argsz = argsz;
    EXPECT_EQ(map(request), fails(EINVAL)) << argsz;
  }
}

TEST_P(MapRules, ALargerArgszIsFine) {
  auto request = good();
  request.argsz = ~0u;
  EXPECT_EQ(map(request), succeeds);
  mapped_at_the_end_ = memory_.size();
}

TEST_P(MapRules, ReadsNothingBeyondTheStruct) {
  const EdgeBuffer buffer{smallest};
  buffer.put(good());
  buffer.make_read_only();
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_MAP_DMA, buffer.data()), succeeds);
  mapped_at_the_end_ = memory_.size();
}

TEST_P(MapRules, BadPointersAreFaults) {
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_MAP_DMA), fails(EFAULT));
  const EdgeBuffer too_short{smallest - 1_B};
  too_short.put(good());
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_MAP_DMA, too_short.data()), fails(EFAULT));
  auto small_argsz = good();
  small_argsz.argsz = 8;
  const EdgeBuffer small{8_B};
  small.put(small_argsz);
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_MAP_DMA, small.data()), fails(EFAULT))
      << "argsz is looked at after all of the struct was read";
}

TEST_P(MapRules, UnknownFlagsAreInvalid) {
  for (const std::uint32_t bit : {3u, 4u, 16u, 31u}) {
    auto request = good();
    request.flags |= 1u << bit;
    EXPECT_EQ(map(request), fails(EINVAL)) << "bit " << bit;
  }
}

TEST_P(MapRules, AMappingNeedsAPermission) {
  EXPECT_EQ(container().map(some_iova, memory_, Access::None), fails(EINVAL));
}

TEST_P(MapRules, SizeZeroIsInvalid) {
  EXPECT_EQ(container().map(some_iova, memory_.data(), {0}), fails(EINVAL));
}

TEST_P(MapRules, MisalignmentIsInvalid) {
  for (const std::uint64_t off : {1u, 8u, 512u, 4095u}) {
    const Bytes offset{off};
    EXPECT_EQ(container().map(some_iova + offset, memory_.data(), page), fails(EINVAL)) << "iova";
    EXPECT_EQ(container().map(some_iova, memory_.at(offset), page), fails(EINVAL)) << "vaddr";
    EXPECT_EQ(container().map(some_iova, memory_.data(), page + offset), fails(EINVAL)) << "size";
    EXPECT_EQ(container().map(some_iova + offset, memory_.at(offset), page), fails(EINVAL))
        << "both";
  }
}

TEST_P(MapRules, AnIovaRangeThatWrapsIsAnOverflow) {
  EXPECT_EQ(container().map(top_page, memory_.data(), page * 2), fails(EOVERFLOW));
  EXPECT_EQ(container().map({page.count * 2}, memory_.data(), {top_page.address}),
            fails(EOVERFLOW));
}

TEST_P(MapRules, AVaddrRangeThatWrapsIsAnOverflow) {
  const void *top = reinterpret_cast<const void *>(top_page.address);
  EXPECT_EQ(container().map(some_iova, top, page * 2), fails(EOVERFLOW));
  EXPECT_EQ(container().map({0}, memory_.data(), {top_page.address}), fails(EOVERFLOW));
  EXPECT_EQ(container().map(some_iova, top, page),
            expected(Behaviour::VaddrUpToTheTop, fails(EFAULT)));
}

TEST_P(MapRules, TheTopPageOfIovasIsOutsideTheAperture) {
  EXPECT_EQ(container().map(top_page, memory_.data(), page), fails(EINVAL));
}

TEST_P(MapRules, OverlapExists) {
  const Iova two = some_iova + page;
  ASSERT_EQ(container().map(two, memory_.data(), page * 2), succeeds);
  mapped_at_the_end_ = page * 2;
  EXPECT_EQ(container().map(two, memory_.data(), page * 2), fails(EEXIST)) << "the same";
  EXPECT_EQ(container().map(two, memory_.data(), page), fails(EEXIST)) << "its start";
  EXPECT_EQ(container().map(two + page, memory_.data(), page), fails(EEXIST)) << "its end";
  EXPECT_EQ(container().map(some_iova, memory_.data(), page * 2), fails(EEXIST)) << "into it";
  EXPECT_EQ(container().map(two + page, memory_.data(), page * 2), fails(EEXIST)) << "out of it";
  EXPECT_EQ(container().map(some_iova, memory_.data(), page * 4), fails(EEXIST)) << "around it";
  EXPECT_EQ(container().map(some_iova, memory_.data(), page), succeeds) << "just before it";
  EXPECT_EQ(container().map(two + page * 2, memory_.data(), page), succeeds) << "just after it";
  mapped_at_the_end_ = page * 4;
}

TEST_P(MapRules, ReservedIovasAreInvalid) {
  constexpr Iova msi{0xfee00000};
  EXPECT_EQ(container().map(msi, memory_.data(), page), fails(EINVAL)) << "its start";
  EXPECT_EQ(container().map(msi + 1_MiB - page, memory_.data(), page), fails(EINVAL)) << "its end";
  EXPECT_EQ(container().map(msi - page, memory_.data(), page * 2), fails(EINVAL)) << "into it";
  EXPECT_EQ(container().map(msi + 1_MiB - page, memory_.data(), page * 2), fails(EINVAL))
      << "out of it";
  EXPECT_EQ(container().map(msi - page, memory_.data(), page), succeeds) << "just before it";
  EXPECT_EQ(container().map(msi + 1_MiB, memory_.data(), page), succeeds) << "just after it";
  mapped_at_the_end_ = page * 2;
}

TEST_P(MapRules, TheApertureHasAnEnd) {
  const Iova last = container().info().iova_ranges.back().last;
  const Iova end = last + 1_B;
  EXPECT_EQ(container().map(end, memory_.data(), page), fails(EINVAL)) << "beyond it";
  EXPECT_EQ(container().map(end - page, memory_.data(), page * 2), fails(EINVAL)) << "across it";
  EXPECT_EQ(container().map(end - page, memory_.data(), page), succeeds) << "the last page";
  mapped_at_the_end_ = page;
}

TEST_P(MapRules, IovaZeroIsAnIova) {
  EXPECT_EQ(container().map({0}, memory_), succeeds);
  mapped_at_the_end_ = memory_.size();
}

TEST_P(MapRules, MemoryMapsAtManyIovas) {
  for (std::uint64_t i = 0; i < 4; ++i)
    EXPECT_EQ(container().map(some_iova + memory_.size() * i, memory_), succeeds);
  mapped_at_the_end_ = memory_.size() * 4;
}

TEST_P(MapRules, TheFirstRuleBrokenDecides) {
  ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  mapped_at_the_end_ = memory_.size();
  EXPECT_EQ(container().map(top_page, memory_.data(), {0}), fails(EINVAL))
      << "size before overflow";
  EXPECT_EQ(container().map(top_page, memory_.data(), page * 2, Access::None), fails(EOVERFLOW))
      << "overflow before permission";
  EXPECT_EQ(container().map(top_page + 1_B, memory_.data(), page * 2),
            expected(Behaviour::MisalignedAndOverflowing, fails(EOVERFLOW)))
      << "overflow before alignment";
  EXPECT_EQ(container().map(some_iova, nullptr, page), fails(EEXIST)) << "overlap before memory";
  EXPECT_EQ(container().map(some_iova, memory_.at(1_B), page),
            expected(Behaviour::MisalignedVaddrOnAnOverlap, fails(EINVAL)))
      << "alignment before overlap";
}

TEST_P(MapRules, WhatFailsCostsNothing) {
  const std::uint32_t before = dma_available();
  EXPECT_EQ(container().map(some_iova, nullptr, page), fails(EFAULT));
  EXPECT_EQ(container().map({0xfee00000}, memory_.data(), page), fails(EINVAL));
  EXPECT_EQ(container().map(some_iova, memory_.data(), {0}), fails(EINVAL));
  EXPECT_EQ(dma_available(), before);
}

} // namespace
