// SPDX-License-Identifier: MIT
#include "cuse/group_choice.hpp"

#include <gtest/gtest.h>

#include "support/fake_sysfs.hpp"

namespace vfio_shim::cuse {
namespace {

constexpr auto drive = "0000:03:00.0";
constexpr auto network = "0000:04:00.0";
constexpr auto its_neighbour = "0000:04:00.1";

class GroupChoiceTest : public testing::Test {
protected:
  GroupChoiceTest() {
    sysfs.add_device(drive, GroupId{3}, "vfio-pci");
    sysfs.add_device(network, GroupId{4}, "vfio-pci");
    sysfs.add_device(its_neighbour, GroupId{4}, "");
  }

  bool has(const GroupChoice &choice, std::uint32_t group) const {
    return choice.has(GroupId{group}, sysfs.roots());
  }

  test::FakeSysfs sysfs;
};

TEST_F(GroupChoiceTest, IsOfAllGroupsWithoutDevices) {
  EXPECT_TRUE(GroupChoice{}.is_all());
  EXPECT_TRUE(has({}, 3));
  EXPECT_TRUE(has({.devices = {}, .left_out = true}, 3));
}

TEST_F(GroupChoiceTest, IsOfTheGroupsOfItsDevicesWhateverDriverTheyHave) {
  const GroupChoice choice{.devices = {its_neighbour}};
  EXPECT_FALSE(choice.is_all());
  EXPECT_FALSE(has(choice, 3));
  EXPECT_TRUE(has(choice, 4));
}

TEST_F(GroupChoiceTest, IsOfAllOthersIfTheyAreLeftOut) {
  const GroupChoice choice{.devices = {network}, .left_out = true};
  EXPECT_TRUE(has(choice, 3));
  EXPECT_FALSE(has(choice, 4));
  EXPECT_TRUE(has(choice, 5)) << "a group that comes later";
}

TEST_F(GroupChoiceTest, TellsDevicesThatAreInNoGroup) {
  const GroupChoice choice{.devices = {network, "0000:05:00.0", drive}};
  EXPECT_EQ(choice.unknown(sysfs.roots()), std::vector<std::string>{"0000:05:00.0"});
}

TEST(FullDeviceNameTest, IsTheKernelsNameOfAPciDevice) {
  EXPECT_EQ(full_device_name("3:00.0"), drive);
  EXPECT_EQ(full_device_name("03:00.0"), drive);
  EXPECT_EQ(full_device_name("0000:03:00.0"), drive);
  EXPECT_EQ(full_device_name("0001:AB:1f.7"), "0001:ab:1f.7");
  EXPECT_EQ(full_device_name("10000:e1:00.0"), "10000:e1:00.0") << "a domain of VMD's";
}

TEST(FullDeviceNameTest, LeavesOtherNamesAlone) {
  constexpr auto mediated = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
  for (const std::string name : {mediated, "fd000000.gpu", "03:00", "03:00.0x", "", "03:00.0 "})
    EXPECT_EQ(full_device_name(name), name);
}

} // namespace
} // namespace vfio_shim::cuse
