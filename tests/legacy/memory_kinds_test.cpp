// SPDX-License-Identifier: MIT
// Every kind of memory that programs give to a device, each read and written by DMA.

#include <tuple>

#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 11;

class MemoryKinds : public testing::TestWithParam<std::tuple<Provider, MemoryKind>> {
protected:
  const Provider &provider() const { return std::get<0>(GetParam()); }
  MemoryKind kind() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(, MemoryKinds,
                         testing::Combine(testing::ValuesIn(providers_under_test()),
                                          testing::ValuesIn(every_memory_kind)),
                         [](const auto &info) {
                           return to_string(std::get<1>(info.param)) + "_" +
                                  std::get<0>(info.param).identifier();
                         });

TEST_P(MemoryKinds, AreReadAndWrittenByTheDevice) {
  const Client client{provider(), topology::lone_edus(1)[0]};
  const Edu edu{client.device};
  const Memory memory = Memory::allocate(kind(), 4_MiB);
  // Across the border of the two huge pages, and back to just below the end.
  const Bytes from = 2_MiB - 1_KiB;
  const Bytes to = 4_MiB - Edu::largest_transfer;
  memory.fill(from, Edu::largest_transfer, seed);
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);

  copy_by_dma(edu, some_iova + from, some_iova + to);
  EXPECT_TRUE(memory.holds(to, Edu::largest_transfer, seed));

  ASSERT_EQ(client.container.unmap(some_iova, memory.size()), unmaps(memory.size()));
  memory.fill(to, Edu::largest_transfer, seed + 1);
  edu.store(some_iova + to, Edu::largest_transfer);
  EXPECT_TRUE(memory.holds(to, Edu::largest_transfer, seed + 1)) << "written after the unmap";
}

} // namespace
