// SPDX-License-Identifier: MIT
// The limit on the number of mappings: 65,535 in one container.

#include <cerrno>

#include <sys/mman.h>

#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t limit = 65535;

LEGACY_SUITE(MappingLimit, AttachedSuite);

TEST_P(MappingLimit, IsReachedAndGivenBack) {
  const Memory memory = Memory::allocate(MemoryKind::MemfdShared, page);
  const auto nth = [](std::uint64_t n) { return some_iova + page * 2 * n; };
  for (std::uint32_t n = 0; n < limit; ++n)
    ASSERT_EQ(container().map(nth(n), memory), succeeds) << "mapping " << n;

  EXPECT_EQ(container().map(nth(limit), memory), expected(Behaviour::MappingLimit, fails(ENOSPC)));
  if (differs(Behaviour::MappingLimit)) {
    EXPECT_EQ(container().unmap_all(), unmaps(page * (limit + 1ull)));
    return;
  }
  EXPECT_EQ(dma_available(), 0u);
  EXPECT_EQ(container().map(nth(0), memory), fails(EEXIST)) << "overlap before the limit";
  EXPECT_EQ(container().map({0xfee00000}, memory), fails(ENOSPC))
      << "the limit before reserved IOVAs";
  EXPECT_EQ(container().map(nth(limit), nullptr, page), fails(ENOSPC)) << "the limit before memory";

  EXPECT_EQ(container().unmap(nth(limit / 2), page), unmaps(page));
  EXPECT_EQ(dma_available(), 1u);
  EXPECT_EQ(container().map(nth(limit), memory), succeeds);
  EXPECT_EQ(container().map(nth(limit / 2), memory), fails(ENOSPC));

  EXPECT_EQ(container().unmap_all(), unmaps(page * std::uint64_t{limit}));
  EXPECT_EQ(dma_available(), limit);
}

} // namespace
