// SPDX-License-Identifier: MIT
#include "cli/info_report.hpp"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "support/fake_sysfs.hpp"

namespace vfio_shim::cli {
namespace {

constexpr IovaRange low{Iova{0}, Iova{0xfedfffff}};
constexpr IovaRange high{Iova{0xfef00000}, Iova{0xffffffffff}};
const hardware::Reserved msi{.range = {Iova{0xfee00000}, Iova{0xfeefffff}}, .type = "msi"};

DeviceInfo device(const std::string &name, hardware::Capabilities can) {
  return {.name = name,
          .group = GroupId{1},
          .reserved = {msi},
          .description = hardware::Description{.iommu_type = 1, .capabilities = std::move(can)},
          .silence = {}};
}

hardware::Capabilities capable() {
  return {.space = {.usable = {low, high}, .page_sizes = 0x40201000, .coherent = true},
          .dirty_tracking = true,
          .nesting = true,
          .pasid_bits = 20,
          .ats = true};
}

TEST(Info, TogetherIsWhatAllCan) {
  hardware::Capabilities lesser = capable();
  lesser.space.usable = {{Iova{0x1000}, Iova{0xffffffff}}};
  lesser.space.page_sizes = 0x201000;
  lesser.dirty_tracking = false;
  lesser.pasid_bits = 16;
  const auto promise = promise_of({device("a", capable()), device("b", lesser)});
  ASSERT_TRUE(promise);
  const auto &can = promise->capabilities;
  EXPECT_EQ(can.space.usable, (std::vector<IovaRange>{{Iova{0x1000}, Iova{0xfedfffff}},
                                                      {Iova{0xfef00000}, Iova{0xffffffff}}}));
  EXPECT_EQ(can.space.page_sizes, 0x201000U);
  EXPECT_TRUE(can.space.coherent);
  EXPECT_FALSE(can.dirty_tracking);
  EXPECT_TRUE(can.nesting);
  EXPECT_EQ(can.pasid_bits, 16U);
}

TEST(Info, ADeviceInUseStillReservesItsRanges) {
  DeviceInfo busy{.name = "busy",
                  .group = GroupId{2},
                  .reserved = {{.range = {Iova{0x10000}, Iova{0x1ffff}}, .type = "direct"},
                               {.range = {Iova{0x0}, Iova{0xfff}}, .type = "direct-relaxable"}},
                  .description = {},
                  .silence = "in use"};
  const auto promise = promise_of({device("a", capable()), busy});
  ASSERT_TRUE(promise);
  EXPECT_EQ(promise->capabilities.space.usable.front(), (IovaRange{Iova{0}, Iova{0xffff}}));
  EXPECT_EQ(promise->not_asked, std::vector<std::string>{"busy"});
  EXPECT_FALSE(promise_of({busy}));
  EXPECT_NE(info_text({busy}).find("nothing is known"), std::string::npos);
}

TEST(Info, SpeaksJson) {
  const auto json = info_json({device("a", capable())});
  EXPECT_EQ(json["devices"][0]["iommu"], "intel-vtd");
  EXPECT_EQ(json["devices"][0]["reserved"][0]["first"], 0xfee00000U);
  EXPECT_EQ(json["together"]["pasid_bits"], 20);
}

TEST(Info, ReadsReservedRangesFromSysfs) {
  const test::FakeSysfs sysfs;
  const auto folder = sysfs.roots().sys / "kernel/iommu_groups/3";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "reserved_regions") << "0x00000000fee00000 0x00000000feefffff msi\n"
                                                "0x000000fd00000000 0x000000ffffffffff reserved\n";
  const auto ranges = hardware::reserved_ranges(GroupId{3}, sysfs.roots());
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[0].range, msi.range);
  EXPECT_EQ(ranges[1].type, "reserved");
  EXPECT_TRUE(hardware::reserved_ranges(GroupId{4}, sysfs.roots()).empty());
}

} // namespace
} // namespace vfio_shim::cli
