// SPDX-License-Identifier: MIT
// VFIO_IOMMU_MAP_DMA of memory that is mapped already, and that the client has put other memory in
// the place of meanwhile: each mapping is of the memory that was there when it was made.

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 9;

class RemappedMemorySuite : public AttachedSuite {
protected:
  /// Whether the device sees at `iova` what `what` fills a page with.
  bool device_sees(Iova iova, std::uint32_t what) {
    return seen_by_device(iova).holds({0}, Edu::largest_transfer, what);
  }
  /// Puts another page in the place of one, and fills it.
  static void replace(const Memory &memory, Bytes offset, std::uint32_t what) {
    ASSERT_NE(::mmap(memory.at(offset), page.count, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              MAP_FAILED);
    memory.fill(offset, page, what);
  }
};

LEGACY_SUITE(RemappedMemory, RemappedMemorySuite);

TEST_P(RemappedMemory, ASecondMappingIsOfThePageThatIsThereNow) {
  const Memory memory{page};
  constexpr std::uint32_t times = 6;
  for (std::uint32_t n = 0; n < times; ++n) {
    replace(memory, {0}, seed + n);
    ASSERT_EQ(container().map(some_iova + page * n, memory), succeeds);
  }
  for (std::uint32_t n = 0; n < times; ++n)
    EXPECT_TRUE(device_sees(some_iova + page * n, seed + n)) << "mapping " << n;
}

TEST_P(RemappedMemory, ThePageThatIsStillThereMapsAgainAndAgain) {
  const Memory memory{page};
  memory.fill({0}, page, seed);
  constexpr std::uint32_t times = 40;
  for (std::uint32_t n = 0; n < times; ++n)
    ASSERT_EQ(container().map(some_iova + page * n, memory), succeeds);
  memory.fill({0}, page, seed + 1);
  EXPECT_TRUE(device_sees(some_iova, seed + 1));
  EXPECT_TRUE(device_sees(some_iova + page * (times - 1), seed + 1));
  replace(memory, {0}, seed + 2);
  ASSERT_EQ(container().map(some_iova + page * times, memory), succeeds);
  EXPECT_TRUE(device_sees(some_iova + page * times, seed + 2));
  EXPECT_TRUE(device_sees(some_iova + page * (times - 1), seed + 1));
}

TEST_P(RemappedMemory, APartThatWasReplacedIsSeen) {
  const Memory memory{page * 3};
  for (std::uint32_t n = 0; n < 3; ++n)
    memory.fill(page * n, page, seed + n);
  ASSERT_EQ(container().map(some_iova, memory.data(), page * 2), succeeds);
  replace(memory, page, seed + 7);
  ASSERT_EQ(container().map(some_iova + 1_MiB, memory.at(page), page * 2), succeeds);
  EXPECT_TRUE(device_sees(some_iova + page, seed + 1));
  EXPECT_TRUE(device_sees(some_iova + 1_MiB, seed + 7));
  EXPECT_TRUE(device_sees(some_iova + 1_MiB + page, seed + 2));
}

TEST_P(RemappedMemory, DiscardedPagesAreLookedUpAnew) {
  const Memory memory{page};
  memory.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  ASSERT_EQ(::madvise(memory.data(), page.count, MADV_DONTNEED), 0);
  memory.fill({0}, page, seed + 1);
  ASSERT_EQ(container().map(some_iova + page, memory), succeeds);
  EXPECT_TRUE(device_sees(some_iova, seed));
  EXPECT_TRUE(device_sees(some_iova + page, seed + 1));
}

TEST_P(RemappedMemory, WithNothingLeftMappedThePageIsTheNewOne) {
  const Memory memory{page};
  for (std::uint32_t n = 0; n < 4; ++n) {
    replace(memory, {0}, seed + n);
    ASSERT_EQ(container().map(some_iova, memory), succeeds);
    EXPECT_TRUE(device_sees(some_iova, seed + n));
    ASSERT_EQ(container().unmap(some_iova, page), unmaps(page));
  }
}

TEST_P(RemappedMemory, ReadingAndWritingMapTheSamePage) {
  const Memory memory{page};
  memory.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, memory, Access::Read), succeeds);
  ASSERT_EQ(container().map(some_iova + page, memory), succeeds);
  const Memory source{page};
  source.fill({0}, page, seed + 1);
  ASSERT_EQ(container().map(some_iova + 1_MiB, source), succeeds);
  copy_by_dma(edu(), some_iova + 1_MiB, some_iova + page);
  EXPECT_TRUE(memory.holds({0}, Edu::largest_transfer, seed + 1));
  EXPECT_TRUE(device_sees(some_iova, seed + 1));
}

/// The parent has mapped the address before, and maps it again afterwards.
TEST_P(RemappedMemory, AForkedChildsPageIsTheChilds) {
  const Memory memory{page};
  memory.fill({0}, page, seed);
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  run_in_child([&] {
    memory.fill({0}, page, seed + 1);
    EXPECT_EQ(container().map(some_iova + page, memory), succeeds);
  });
  memory.fill({0}, page, seed + 2);
  ASSERT_EQ(container().map(some_iova + page * 2, memory), succeeds);
  EXPECT_TRUE(device_sees(some_iova, seed + 2));
  EXPECT_TRUE(device_sees(some_iova + page, seed + 1));
  EXPECT_TRUE(device_sees(some_iova + page * 2, seed + 2));
}

/// Who holds an iommufd can map with it, and reach what others map.
std::vector<std::string> iommufds_here() {
  std::vector<std::string> found;
  for (const auto &entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(entry.path(), error);
    if (target.find("iommu") != std::string::npos)
      found.push_back(entry.path().filename().string() + " -> " + target);
  }
  return found;
}

TEST_P(RemappedMemory, NoIommufdStaysInTheClientOrItsChildren) {
  if (provider().name != "shim")
    return; // Others' clients have what they have opened.
  const Memory small{page};
  const Memory large{16_MiB};
  ASSERT_EQ(container().map(some_iova, small), succeeds);
  ASSERT_EQ(container().map(some_iova + 1_MiB, large), succeeds);
  EXPECT_EQ(iommufds_here(), std::vector<std::string>{});
  run_in_child([] { EXPECT_EQ(iommufds_here(), std::vector<std::string>{}); });
}

TEST_P(RemappedMemory, AClientWithoutAFreeDescriptorMaps) {
  const Answer as_expected = expected(Behaviour::MapWithoutADescriptor, succeeds);
  run_in_child([&] {
    const Fd last{::dup(STDERR_FILENO)};
    const rlimit none_left{static_cast<rlim_t>(last.number()) + 1, 4096};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none_left), 0);
    const Memory memory{page};
    memory.fill({0}, page, seed);
    const Answer answer = container().map(some_iova, memory);
    EXPECT_EQ(answer, as_expected);
    EXPECT_EQ(container().unmap_all(), answer.ok() ? unmaps(page) : unmaps({0}));
  });
}

} // namespace
