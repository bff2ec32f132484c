// SPDX-License-Identifier: MIT
#include "rules/operations.hpp"

#include <array>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <linux/vfio.h>

namespace vfio_shim::rules {
namespace {

/// Every ioctl of the legacy API, with all that its argument can hold.
const std::vector<std::pair<unsigned int, LegacyCall>> every_call = {
    {VFIO_GET_API_VERSION, GetApiVersion{}},
    {VFIO_CHECK_EXTENSION, CheckExtension{.extension = 9}},
    {VFIO_SET_IOMMU, SetIommu{.type = 3}},
    {VFIO_IOMMU_GET_INFO,
     GetInfo{.argsz = 100, .flags = 3, .page_sizes = 0x40201000, .capability_offset = 24}},
    {VFIO_IOMMU_MAP_DMA, MapDma{.argsz = 32,
                                .flags = 3,
                                .vaddr = ClientAddr{0x7f0000001000},
                                .iova = Iova{UINT64_MAX - 0xfff},
                                .size = Bytes{0x1000}}},
    {VFIO_IOMMU_UNMAP_DMA,
     UnmapDma{.argsz = 24, .flags = 2, .iova = Iova{0x1000}, .size = Bytes{0x2000}, .bitmap = {}}},
    {VFIO_IOMMU_UNMAP_DMA, UnmapDma{.argsz = 48,
                                    .flags = 1,
                                    .iova = Iova{0x1000},
                                    .size = Bytes{0x2000},
                                    .bitmap = Bitmap{.page_size = Bytes{0x1000},
                                                     .size = Bytes{8},
                                                     .address = ClientAddr{0x5000}}}},
    {VFIO_IOMMU_DIRTY_PAGES, DirtyPages{.argsz = 8, .flags = 1, .range = {}}},
    {VFIO_IOMMU_DIRTY_PAGES,
     DirtyPages{.argsz = 48,
                .flags = 4,
                .range = DirtyPages::Range{.iova = Iova{0x1000},
                                           .size = Bytes{0x2000},
                                           .bitmap = {.page_size = Bytes{0x1000},
                                                      .size = Bytes{8},
                                                      .address = ClientAddr{0x5000}}}}},
    {VFIO_GROUP_GET_STATUS, GetStatus{.argsz = 8, .flags = 3}},
    {VFIO_GROUP_SET_CONTAINER, SetContainer{.container = ClientFd{-1}}},
    {VFIO_GROUP_UNSET_CONTAINER, UnsetContainer{}},
    {VFIO_GROUP_GET_DEVICE_FD, GetDeviceFd{.text = "0000:00:03.0 vf_token=1"}},
};

std::uint64_t value_of(const LegacyCall &call) {
  if (const auto *asked = std::get_if<CheckExtension>(&call))
    return asked->extension;
  if (const auto *set = std::get_if<SetIommu>(&call))
    return set->type;
  return 0x1234; // An address.
}

TEST(Operations, AreFoundByTheirNumber) {
  EXPECT_EQ(find_operation(VFIO_IOMMU_MAP_DMA)->name, "VFIO_IOMMU_MAP_DMA");
  EXPECT_EQ(find_operation(VFIO_DEVICE_GET_INFO), nullptr);
  EXPECT_EQ(name_of(VFIO_GROUP_GET_DEVICE_FD), "VFIO_GROUP_GET_DEVICE_FD");
  EXPECT_EQ(name_of(0), "");
}

TEST(Operations, HaveALayoutThatGoesBothWays) {
  for (const auto &[command, call] : every_call)
    EXPECT_EQ(decode(command, value_of(call), encode(call)), call) << name_of(command);
}

/// What a recording may keep of a call.
TEST(Operations, TakeMissingBytesForZeros) {
  for (const auto &[command, call] : every_call) {
    const auto whole = encode(call);
    const std::size_t least = find_operation(command)->least;
    for (std::size_t size = 0; size < least; ++size) {
      const std::span part(whole.data(), size);
      std::vector<std::byte> padded(part.begin(), part.end());
      padded.resize(least);
      EXPECT_EQ(decode(command, value_of(call), part), decode(command, value_of(call), padded))
          << name_of(command) << ", " << size << " bytes";
    }
  }
}

TEST(Operations, AreSilentAboutWhatIsNotThere) {
  const LegacyCall unmap = UnmapDma{.argsz = 48,
                                    .flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
                                    .iova = {},
                                    .size = {},
                                    .bitmap = Bitmap{}};
  auto bytes = encode(unmap);
  EXPECT_TRUE(std::get<UnmapDma>(decode(VFIO_IOMMU_UNMAP_DMA, 0, bytes)).bitmap);
  bytes.pop_back();
  EXPECT_FALSE(std::get<UnmapDma>(decode(VFIO_IOMMU_UNMAP_DMA, 0, bytes)).bitmap);
}

TEST(Operations, LeaveWhatIsBehindTheStructWhenTheyStoreIt) {
  std::vector<std::byte> bytes(64, std::byte{0xaa});
  store(SetContainer{.container = ClientFd{1}}, bytes);
  EXPECT_EQ(bytes.size(), 64U);
  EXPECT_EQ(bytes[0], std::byte{1});
  EXPECT_EQ(bytes[4], std::byte{0xaa});
}

TEST(Operations, NameADeviceAndItsOptions) {
  const GetDeviceFd plain{.text = "0000:00:03.0"};
  EXPECT_EQ(plain.name(), "0000:00:03.0");
  EXPECT_EQ(plain.options(), "");
  const GetDeviceFd with_token{.text = "0000:00:03.0 vf_token=1 x"};
  EXPECT_EQ(with_token.name(), "0000:00:03.0");
  EXPECT_EQ(with_token.options(), " vf_token=1 x");
  EXPECT_EQ(GetDeviceFd{}.name(), "");
}

TEST(Operations, KnowNoOtherIoctl) {
  EXPECT_EQ(decode(VFIO_DEVICE_RESET, 7, {}), LegacyCall(UnknownCall{}));
}

} // namespace
} // namespace vfio_shim::rules
