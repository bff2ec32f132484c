// SPDX-License-Identifier: MIT
// VFIO_IOMMU_MAP_DMA: the client's memory behind the address. What cannot be pinned is refused
// and leaves nothing mapped; what can be pinned is what the device sees.

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 3;
constexpr Iova elsewhere = some_iova + 16_MiB;
constexpr Iova hole = some_iova + 32_MiB;

class MapMemorySuite : public AttachedSuite {
protected:
  void expect_nothing_mapped() { EXPECT_EQ(container().unmap_all(), unmaps({0})); }
};

LEGACY_SUITE(MapMemory, MapMemorySuite);

TEST_P(MapMemory, AnAddressWithoutMemoryIsAFault) {
  Memory gone{page};
  const std::byte *address = gone.data();
  gone.release();
  EXPECT_EQ(container().map(some_iova, address, page), fails(EFAULT));
  EXPECT_EQ(container().map(some_iova, nullptr, page), fails(EFAULT));
  expect_nothing_mapped();
}

TEST_P(MapMemory, AKernelAddressIsAFault) {
  const auto *kernel = reinterpret_cast<const void *>(0xffff888000000000);
  EXPECT_EQ(container().map(some_iova, kernel, page), fails(EFAULT));
  const auto *non_canonical = reinterpret_cast<const void *>(0x8000000000000000);
  EXPECT_EQ(container().map(some_iova, non_canonical, page), fails(EFAULT));
  expect_nothing_mapped();
}

TEST_P(MapMemory, AHoleAnywhereIsAFault) {
  for (const std::uint64_t missing : {0u, 2u, 3u}) {
    const Memory memory{page * 4};
    memory.punch_hole(page * missing, page);
    EXPECT_EQ(container().map(some_iova, memory), fails(EFAULT)) << "page " << missing;
    expect_nothing_mapped();
  }
}

TEST_P(MapMemory, AHoleFarIntoALargeMappingLeavesNothing) {
  const Memory memory{16_MiB};
  memory.punch_hole(16_MiB - page, page);
  const std::uint32_t before = dma_available();
  EXPECT_EQ(container().map(some_iova, memory), fails(EFAULT));
  EXPECT_EQ(dma_available(), before);
  expect_nothing_mapped();
  EXPECT_EQ(container().map(some_iova, memory.data(), 16_MiB - page), succeeds)
      << "without the hole";
}

TEST_P(MapMemory, InaccessibleMemoryIsAFault) {
  const Memory memory{page};
  memory.protect({0}, page, PROT_NONE);
  for (const Access access : {Access::Read, Access::Write, Access::ReadWrite})
    EXPECT_EQ(container().map(some_iova, memory, access), fails(EFAULT));
  expect_nothing_mapped();
}

TEST_P(MapMemory, ReadOnlyMemoryMapsForReadingOnly) {
  const Memory memory{page};
  memory.fill({0}, page, seed);
  memory.protect({0}, page, PROT_READ);
  EXPECT_EQ(container().map(some_iova, memory, Access::Write), fails(EFAULT));
  EXPECT_EQ(container().map(some_iova, memory, Access::ReadWrite), fails(EFAULT));
  ASSERT_EQ(container().map(some_iova, memory, Access::Read), succeeds);
  EXPECT_TRUE(seen_by_device(some_iova).holds({0}, Edu::largest_transfer, seed));
}

TEST_P(MapMemory, APartThatIsReadOnlyIsAFault) {
  const Memory memory{page * 4};
  memory.protect(page * 3, page, PROT_READ);
  EXPECT_EQ(container().map(some_iova, memory), fails(EFAULT));
  expect_nothing_mapped();
  EXPECT_EQ(container().map(some_iova, memory, Access::Read), succeeds);
}

TEST_P(MapMemory, WriteOnlyMemoryDoesNotMapForReading) {
  const Memory memory{page};
  memory.protect({0}, page, PROT_WRITE);
  EXPECT_EQ(container().map(some_iova, memory, Access::Write), succeeds);
  EXPECT_EQ(container().map(elsewhere, memory, Access::Read),
            expected(Behaviour::MapOfUnreadableMemory, fails(EFAULT)));
}

TEST_P(MapMemory, AReadMappingCannotBeWrittenByTheDevice) {
  const Memory source{page}, memory{page};
  source.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, source), succeeds);
  ASSERT_EQ(container().map(hole, memory, Access::Read), succeeds);
  copy_by_dma(edu(), some_iova, hole);
  EXPECT_FALSE(memory.holds({0}, Edu::largest_transfer, seed));
}

TEST_P(MapMemory, AWriteMappingTakesWhatTheDeviceWrites) {
  const Memory source{page}, memory{page};
  source.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, source, Access::Read), succeeds);
  ASSERT_EQ(container().map(hole, memory, Access::Write), succeeds);
  copy_by_dma(edu(), some_iova, hole);
  EXPECT_TRUE(memory.holds({0}, Edu::largest_transfer, seed));
}

TEST_P(MapMemory, AReadOnlyFileMapsForReadingOnly) {
  const Fd writable = make_memfd(page);
  const std::string path = "/proc/self/fd/" + std::to_string(writable.number());
  const std::string text(page.count, 'r');
  ASSERT_EQ(::pwrite(writable.number(), text.data(), text.size(), 0), long(text.size()));
  const Memory memory{Fd::open(path, O_RDONLY), page, PROT_READ, MAP_SHARED};
  EXPECT_EQ(container().map(some_iova, memory), fails(EFAULT));
  ASSERT_EQ(container().map(some_iova, memory, Access::Read), succeeds);
  EXPECT_EQ(std::memcmp(seen_by_device(some_iova).data(), text.data(), Edu::largest_transfer.count),
            0);
}

TEST_P(MapMemory, AProgramsOwnTextMapsForReading) {
  const Memory program{Fd::open("/proc/self/exe", O_RDONLY), page, PROT_READ, MAP_PRIVATE};
  ASSERT_EQ(container().map(some_iova, program, Access::Read), succeeds);
  EXPECT_EQ(std::memcmp(seen_by_device(some_iova).data(), "\177ELF", 4), 0);
}

TEST_P(MapMemory, BeyondTheEndOfAFileIsAFault) {
  const Memory memory{make_memfd(page), page * 2, PROT_READ | PROT_WRITE, MAP_SHARED};
  EXPECT_EQ(container().map(some_iova, memory), fails(EFAULT));
  expect_nothing_mapped();
  EXPECT_EQ(container().map(some_iova, memory.data(), page), succeeds);
}

TEST_P(MapMemory, OneMappingSpansDifferentMemory) {
  // Private memory, then two memfds, the second one at an offset, then private memory again.
  const Memory memory{page * 4};
  const Fd first = make_memfd(page), second = make_memfd(page * 3);
  const int protection = PROT_READ | PROT_WRITE;
  ASSERT_NE(
      ::mmap(memory.at(page), page.count, protection, MAP_SHARED | MAP_FIXED, first.number(), 0),
      MAP_FAILED);
  ASSERT_NE(::mmap(memory.at(page * 2), page.count, protection, MAP_SHARED | MAP_FIXED,
                   second.number(), 2 * page.count),
            MAP_FAILED);
  memory.fill({0}, memory.size(), seed);
  ASSERT_EQ(container().map(some_iova, memory), succeeds);

  for (std::uint64_t border = 1; border < 4; ++border) {
    const Bytes offset = page * border - 1_KiB;
    const Memory seen = seen_by_device(some_iova + offset);
    EXPECT_EQ(std::memcmp(seen.data(), memory.at(offset), Edu::largest_transfer.count), 0)
        << "across border " << border;
  }
}

TEST_P(MapMemory, UnmappingTheMemoryLeavesTheMapping) {
  Memory memory{page};
  memory.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  memory.release();
  EXPECT_TRUE(seen_by_device(some_iova).holds({0}, Edu::largest_transfer, seed))
      << "its pages are pinned";
  EXPECT_EQ(container().unmap(some_iova, page), unmaps(page));
}

TEST_P(MapMemory, UntouchedMemoryMappedForReadingStaysTheSameMemory) {
  const Memory memory{{}, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS};
  ASSERT_EQ(container().map(some_iova, memory, Access::Read), succeeds);
  memory.fill({0}, page, seed);
  EXPECT_TRUE(seen_by_device(some_iova).holds({0}, Edu::largest_transfer, seed));
}

TEST_P(MapMemory, AfterAForkTheDeviceSeesTheParentsMemory) {
  const Memory memory{page};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  run_in_child([&] { memory.fill({0}, page, seed + 1); });
  const Child sleeper{[] { ::pause(); }};
  memory.fill({0}, page, seed);
  EXPECT_TRUE(seen_by_device(some_iova).holds({0}, Edu::largest_transfer, seed));
}

TEST_P(MapMemory, TheStackMaps) {
  alignas(4096) std::byte frame[4096];
  std::memset(frame, 0x5a, sizeof(frame));
  ASSERT_EQ(container().map(some_iova, frame, page), succeeds);
  EXPECT_EQ(seen_by_device(some_iova).data()[100], std::byte{0x5a});
}

TEST_P(MapMemory, AnUnmappedIovaIsOutOfTheDevicesReach) {
  const Memory source{page}, memory{page};
  source.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, source), succeeds);
  ASSERT_EQ(container().map(hole, memory), succeeds);
  ASSERT_EQ(container().unmap(hole, page), unmaps(page));
  copy_by_dma(edu(), some_iova, hole);
  EXPECT_FALSE(memory.holds({0}, Edu::largest_transfer, seed)) << "a DMA write";

  memory.fill({0}, page, seed + 1);
  const Memory seen = seen_by_device(hole);
  EXPECT_FALSE(seen.holds({0}, Edu::largest_transfer, seed + 1)) << "a DMA read";
}

} // namespace
