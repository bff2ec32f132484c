// SPDX-License-Identifier: MIT
#include "abi/vfio.hpp"
#include "rules/capability_chain.hpp"

#include <cstring>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "support/program.hpp"

namespace vfio_shim::rules {
namespace {

using test::IommuInfo;

constexpr std::size_t base = sizeof(vfio_iommu_type1_info);

const AddressSpace x86{
    .usable = {{Iova{0}, Iova{0xfedfffff}}, {Iova{0xfef00000}, Iova{0xffffffffffff}}},
    .page_sizes = 0x40201000};

/// The chain behind a struct that links to it, as GET_INFO gives it, taken apart.
IommuInfo parse(const std::vector<std::byte> &chain) {
  vfio_iommu_type1_info head{};
  head.flags = VFIO_IOMMU_INFO_CAPS;
  head.cap_offset = base;
  std::vector<std::byte> bytes(base + chain.size());
  std::memcpy(bytes.data(), &head, sizeof(head));
  std::memcpy(bytes.data() + base, chain.data(), chain.size());
  return IommuInfo::parse(bytes);
}

std::uint32_t word_at(const std::vector<std::byte> &chain, std::size_t offset) {
  std::uint32_t word = 0;
  std::memcpy(&word, chain.data() + offset, sizeof(word));
  return word;
}

std::uint64_t long_at(const std::vector<std::byte> &chain, std::size_t offset) {
  std::uint64_t number = 0;
  std::memcpy(&number, chain.data() + offset, sizeof(number));
  return number;
}

TEST(CapabilityChain, IsInType1sOrder) {
  const IommuInfo info = parse(build_capability_chain(x86, 1, base));
  ASSERT_EQ(info.chain.size(), 3U);
  EXPECT_EQ(info.chain[0].id, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
  EXPECT_EQ(info.chain[1].id, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
  EXPECT_EQ(info.chain[2].id, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
  for (const auto &link : info.chain)
    EXPECT_EQ(link.version, 1U);
}

TEST(CapabilityChain, HasType1sBytes) {
  const auto chain = build_capability_chain(x86, 0xabcd, base);
  ASSERT_EQ(chain.size(), 32U + 16 + 48);

  EXPECT_EQ(word_at(chain, 0), 2U | (1U << 16)) << "id 2, version 1";
  EXPECT_EQ(word_at(chain, 4), base + 32) << "next";
  EXPECT_EQ(word_at(chain, 8), 0U) << "flags";
  EXPECT_EQ(word_at(chain, 12), 0U) << "padding";
  EXPECT_EQ(long_at(chain, 16), 0x1000U) << "only the smallest page size";
  EXPECT_EQ(long_at(chain, 24), 0x10000000U) << "256 MiB: a bit for each of INT_MAX pages";

  EXPECT_EQ(word_at(chain, 32), 3U | (1U << 16));
  EXPECT_EQ(word_at(chain, 36), base + 48);
  EXPECT_EQ(word_at(chain, 40), 0xabcdU);
  EXPECT_EQ(word_at(chain, 44), 0U) << "fills up to 8 bytes";

  EXPECT_EQ(word_at(chain, 48), 1U | (1U << 16));
  EXPECT_EQ(word_at(chain, 52), 0U) << "the last one";
  EXPECT_EQ(word_at(chain, 56), 2U) << "ranges";
  EXPECT_EQ(word_at(chain, 60), 0U);
  EXPECT_EQ(long_at(chain, 64), 0U);
  EXPECT_EQ(long_at(chain, 72), 0xfedfffffU);
  EXPECT_EQ(long_at(chain, 80), 0xfef00000U);
  EXPECT_EQ(long_at(chain, 88), 0xffffffffffffU);
}

TEST(CapabilityChain, CountsItsLinksFromTheBase) {
  const auto chain = build_capability_chain(x86, 1, 0x100);
  EXPECT_EQ(word_at(chain, 4), 0x120U);
  EXPECT_EQ(word_at(chain, 36), 0x130U);
}

TEST(CapabilityChain, EndsBeforeTheRangesIfThereAreNone) {
  const IommuInfo info =
      parse(build_capability_chain({.usable = {}, .page_sizes = 0x1000}, 7, base));
  ASSERT_EQ(info.chain.size(), 2U);
  EXPECT_EQ(info.chain[1].id, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
  EXPECT_EQ(info.available, 7U);
}

TEST(CapabilityChain, SaysTheSmallestPageSizeForMigration) {
  const AddressSpace huge{.usable = {}, .page_sizes = (1ULL << 30) | (1ULL << 21)};
  EXPECT_EQ(parse(build_capability_chain(huge, 0, base)).migration.pgsize_bitmap, 1U << 21);
}

RC_GTEST_PROP(CapabilityChain, SaysWhateverItWasGiven, ()) {
  AddressSpace space{.usable = {}, .page_sizes = 1ULL << *rc::gen::inRange(12, 40)};
  for (const auto &[first, last] :
       *rc::gen::arbitrary<std::vector<std::pair<std::uint64_t, std::uint64_t>>>())
    space.usable.push_back({Iova{first}, Iova{last}});
  const auto available = *rc::gen::arbitrary<std::uint32_t>();

  const auto chain = build_capability_chain(space, available, base);
  RC_ASSERT(chain.size() % 8 == 0U);
  const IommuInfo info = parse(chain);
  RC_ASSERT(info.chain.size() == (space.usable.empty() ? 2U : 3U));
  RC_ASSERT(info.usable == space.usable);
  RC_ASSERT(info.available == available);
  RC_ASSERT(info.migration.pgsize_bitmap == space.page_sizes);
}

} // namespace
} // namespace vfio_shim::rules
