// SPDX-License-Identifier: MIT
#include "rules/read_call.hpp"
#include "type1/catching_bad_alloc.hpp"

#include "vfio_shim/own_process.hpp"

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <linux/vfio.h>

#include "support/answer.hpp"
#include "support/pages.hpp"
#include "support/program.hpp"

namespace vfio_shim::rules {
namespace {

using test::address_of;
using test::answer_of;
using test::answers;
using test::bitmap_argument;
using test::fails;
using test::joined;
using test::map_request;
using test::Pages;
using test::succeeds;
using test::unmap_request;

class ReadCall : public testing::Test {
protected:
  OwnProcess client{[](const Fd &) { return std::shared_ptr<Container>(); }};

  Result<LegacyCall> read(unsigned int command, std::uint64_t argument) {
    return read_call(*find_operation(command), client, argument);
  }
  Result<LegacyCall> read(unsigned int command, const void *argument) {
    return read(command, address_of(argument).value);
  }
  test::Answer answer(unsigned int command, const void *argument) {
    return answer_of(read(command, argument));
  }
};

TEST_F(ReadCall, TakesAValueAsItIs) {
  EXPECT_EQ(read(VFIO_CHECK_EXTENSION, 0xdead000000000001),
            LegacyCall(CheckExtension{.extension = 0xdead000000000001}));
  EXPECT_EQ(read(VFIO_SET_IOMMU, 3), LegacyCall(SetIommu{.type = 3}));
}

TEST_F(ReadCall, LooksAtNothingBehindAValue) {
  EXPECT_EQ(read(VFIO_GET_API_VERSION, 1), LegacyCall(GetApiVersion{}));
  EXPECT_EQ(read(VFIO_GROUP_UNSET_CONTAINER, 1), LegacyCall(UnsetContainer{}));
}

TEST_F(ReadCall, ReadsAnIntAndDoesNotTakeItForASize) {
  for (const int number : {17, 0, -1})
    EXPECT_EQ(read(VFIO_GROUP_SET_CONTAINER, &number),
              LegacyCall(SetContainer{.container = ClientFd{number}}));
}

TEST_F(ReadCall, ReadsAStruct) {
  const auto map = map_request(Iova{0x1000}, ClientAddr{0x7000}, Bytes{0x2000});
  EXPECT_EQ(read(VFIO_IOMMU_MAP_DMA, &map), LegacyCall(MapDma{.argsz = sizeof(map),
                                                              .flags = map.flags,
                                                              .vaddr = ClientAddr{0x7000},
                                                              .iova = Iova{0x1000},
                                                              .size = Bytes{0x2000}}));
}

TEST_F(ReadCall, ReadsOnlyTheMinimumAndGivesZerosForTheRest) {
  const Pages pages;
  vfio_iommu_type1_info info{};
  info.argsz = 16;
  info.cap_offset = 5;
  EXPECT_EQ(read(VFIO_IOMMU_GET_INFO, &info), LegacyCall(GetInfo{.argsz = 16}));
  EXPECT_EQ(read(VFIO_IOMMU_GET_INFO, pages.put_at_end(info, 16)),
            LegacyCall(GetInfo{.argsz = 16}));
}

TEST_F(ReadCall, TakesAnyArgszFromTheMinimumOn) {
  for (const std::uint32_t argsz : {8U, 9U, 4096U, UINT32_MAX}) {
    const vfio_group_status status{.argsz = argsz, .flags = 0};
    EXPECT_EQ(read(VFIO_GROUP_GET_STATUS, &status), LegacyCall(GetStatus{.argsz = argsz}));
  }
}

TEST_F(ReadCall, RefusesAShortArgsz) {
  const std::pair<unsigned int, std::uint32_t> least[] = {{VFIO_IOMMU_GET_INFO, 16},
                                                          {VFIO_IOMMU_MAP_DMA, 32},
                                                          {VFIO_IOMMU_UNMAP_DMA, 24},
                                                          {VFIO_IOMMU_DIRTY_PAGES, 8},
                                                          {VFIO_GROUP_GET_STATUS, 8}};
  for (const auto &[command, size] : least) {
    std::array<std::uint32_t, 16> argument{size};
    EXPECT_EQ(answer(command, argument.data()), succeeds) << name_of(command);
    for (const std::uint32_t argsz : {0U, 4U, size - 1}) {
      argument[0] = argsz;
      EXPECT_EQ(answer(command, argument.data()), fails(EINVAL)) << name_of(command) << argsz;
    }
  }
}

TEST_F(ReadCall, RefusesWhatCannotBeRead) {
  const Pages pages;
  const vfio_group_status status{.argsz = 8, .flags = 0};
  EXPECT_EQ(answer(VFIO_GROUP_GET_STATUS, nullptr), fails(EFAULT));
  EXPECT_EQ(answer(VFIO_GROUP_GET_STATUS, pages.end()), fails(EFAULT));
  EXPECT_EQ(answer(VFIO_GROUP_GET_STATUS, pages.put_at_end(status, 7)), fails(EFAULT))
      << "one byte short";
  EXPECT_EQ(answer_of(read(VFIO_GROUP_GET_STATUS, UINT64_MAX)), fails(EFAULT));
  EXPECT_EQ(answer(VFIO_GROUP_SET_CONTAINER, nullptr), fails(EFAULT));
  EXPECT_EQ(answer(VFIO_GROUP_GET_DEVICE_FD, nullptr), fails(EFAULT));
}

TEST_F(ReadCall, ReadsBeforeItChecksTheSize) {
  const Pages pages;
  const vfio_group_status too_small{.argsz = 0, .flags = 0};
  EXPECT_EQ(answer(VFIO_GROUP_GET_STATUS, pages.put_at_end(too_small, 4)), fails(EFAULT));
}

TEST_F(ReadCall, ReadsAStructOnAPagesBorder) {
  const Pages pages(2);
  const vfio_group_status status{.argsz = 9, .flags = 7};
  std::byte *place = pages.begin() + test::page_size - 3;
  std::memcpy(place, &status, sizeof(status));
  EXPECT_EQ(read(VFIO_GROUP_GET_STATUS, place), LegacyCall(GetStatus{.argsz = 9, .flags = 7}));
}

TEST_F(ReadCall, ReadsAStringOfAPageAtMost) {
  const Pages pages(2);
  std::memset(pages.begin(), 'x', 2 * test::page_size);
  EXPECT_EQ(answer(VFIO_GROUP_GET_DEVICE_FD, pages.begin()), fails(EINVAL)) << "longer than a page";
  EXPECT_EQ(answer(VFIO_GROUP_GET_DEVICE_FD, pages.end() - 1), fails(EFAULT)) << "without an end";
  pages.begin()[test::page_size - 1] = std::byte{0};
  EXPECT_EQ(read(VFIO_GROUP_GET_DEVICE_FD, pages.begin()),
            LegacyCall(GetDeviceFd{.text = std::string(test::page_size - 1, 'x')}));
}

TEST_F(ReadCall, ReadsNothingBehindAStringsPage) {
  const Pages pages;
  constexpr const char *name = "0000:00:03.0";
  std::byte *place = pages.end() - std::strlen(name) - 1;
  std::memcpy(place, name, std::strlen(name) + 1);
  EXPECT_EQ(read(VFIO_GROUP_GET_DEVICE_FD, place), LegacyCall(GetDeviceFd{.text = name}));
}

TEST_F(ReadCall, ReadsTheBitmapOfAnUnmapThatWantsIt) {
  auto unmap = unmap_request(Iova{0}, Bytes{0x1000}, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  unmap.argsz = sizeof(unmap) + sizeof(vfio_bitmap);
  const auto bytes = joined(unmap, bitmap_argument(ClientAddr{0x5000}, 8));
  const auto read_unmap = std::get<UnmapDma>(*read(VFIO_IOMMU_UNMAP_DMA, bytes.data()));
  EXPECT_EQ(read_unmap.bitmap,
            (Bitmap{.page_size = Bytes{0x1000}, .size = Bytes{8}, .address = ClientAddr{0x5000}}));
}

TEST_F(ReadCall, NeedsRoomForTheBitmapOfAnUnmap) {
  auto unmap = unmap_request(Iova{0}, Bytes{0x1000}, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  const Pages pages;
  EXPECT_EQ(answer(VFIO_IOMMU_UNMAP_DMA, pages.put_at_end(unmap, sizeof(unmap))), fails(EINVAL))
      << "argsz says that there is none";
  unmap.argsz = sizeof(unmap) + sizeof(vfio_bitmap);
  EXPECT_EQ(answer(VFIO_IOMMU_UNMAP_DMA, pages.put_at_end(unmap, sizeof(unmap))), fails(EFAULT));
}

TEST_F(ReadCall, LooksForNoBitmapIfTheFlagsAreWrong) {
  const Pages pages;
  constexpr std::uint32_t all = VFIO_DMA_UNMAP_FLAG_ALL;
  for (const std::uint32_t flags :
       {0U, 1U << 31U, all, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | all}) {
    auto unmap = unmap_request(Iova{0}, Bytes{0x1000}, flags);
    unmap.argsz = UINT32_MAX;
    const auto call = read(VFIO_IOMMU_UNMAP_DMA, pages.put_at_end(unmap, sizeof(unmap)));
    ASSERT_EQ(answer_of(call), succeeds) << flags;
    EXPECT_FALSE(std::get<UnmapDma>(*call).bitmap) << flags;
  }
}

TEST_F(ReadCall, ReadsTheRangeOfAReportOnly) {
  const Pages pages;
  for (const std::uint32_t flags : {0U, 1U, 2U, 7U}) {
    const std::array<std::uint32_t, 2> head{UINT32_MAX, flags};
    const auto call = read(VFIO_IOMMU_DIRTY_PAGES, pages.put_at_end(head, sizeof(head)));
    EXPECT_EQ(call, LegacyCall(DirtyPages{.argsz = UINT32_MAX, .flags = flags, .range = {}}));
  }
  const std::array<std::uint32_t, 2> head{48, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP};
  EXPECT_EQ(answer(VFIO_IOMMU_DIRTY_PAGES, pages.put_at_end(head, sizeof(head))), fails(EFAULT));
  const std::array<std::uint32_t, 2> short_head{47, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP};
  EXPECT_EQ(answer(VFIO_IOMMU_DIRTY_PAGES, pages.put_at_end(short_head, sizeof(head))),
            fails(EINVAL));
}

TEST(Serving, IsENOMEMWithoutMemoryOfOurOwn) {
  EXPECT_EQ(answer_of(type1::catching_bad_alloc([]() -> Result<long> { throw std::bad_alloc(); })),
            fails(ENOMEM));
  EXPECT_EQ(answer_of(type1::catching_bad_alloc([]() -> Result<long> { return 7; })), answers(7));
}

} // namespace
} // namespace vfio_shim::rules
