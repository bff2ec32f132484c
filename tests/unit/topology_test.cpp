// SPDX-License-Identifier: MIT
#include "topology/coherency.hpp"
#include "topology/device_file.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/topology.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "support/answer.hpp"
#include "support/fake_sysfs.hpp"

namespace vfio_shim::topology {
namespace {

using test::answer_of;
using test::fails;
using test::FakeSysfs;

class TopologyTest : public testing::Test {
protected:
  FakeSysfs sysfs;

  void add_vfio_device(const std::string &name, GroupId group, int cdev) {
    sysfs.add_device(name, group, "vfio-pci");
    sysfs.add_cdev(name, cdev);
  }
};

class Coherency : public TopologyTest {
protected:
  /// Whether it is enforced, if the IOMMU says @p text in its @p attribute.
  bool is_enforced(const std::string &attribute, const std::string &text) const {
    const auto file = sysfs.roots().sys / "bus/pci/devices/0000:00:03.0/iommu" / attribute;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
    return enforces_coherency("0000:00:03.0", sysfs.roots());
  }
};

TEST_F(Coherency, IsEnforcedByIntelsIommusThatCanSnoop) {
  EXPECT_FALSE(enforces_coherency("0000:00:03.0", sysfs.roots()));
  EXPECT_FALSE(is_enforced("intel-iommu/ecap", "f00f4e\n"));
  EXPECT_TRUE(is_enforced("intel-iommu/ecap", "f020df\n"));
  EXPECT_FALSE(is_enforced("intel-iommu/ecap", "?\n"));
}

TEST_F(Coherency, IsEnforcedByAmdsIommus) {
  EXPECT_TRUE(is_enforced("amd-iommu/cap", "0\n"));
}

class Scan : public TopologyTest {};

TEST_F(Scan, FindsNothingWhereThereIsNoVfio) {
  EXPECT_TRUE(scan(sysfs.roots()).empty());
}

TEST_F(Scan, WithoutDescriptorsCannotTell) {
  add_vfio_device("0000:00:03.0", GroupId{2}, 7);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlim_t next = static_cast<rlim_t>(Fd{::dup(0)}.get());
  const rlimit tight{.rlim_cur = next, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const auto all = answer_of(groups(sysfs.roots()));
  const auto one = answer_of(find(GroupId{2}, sysfs.roots()));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(all, fails(EMFILE));
  EXPECT_EQ(one, fails(EMFILE)) << "rather than ENODEV";
}

TEST_F(Scan, FindsADeviceWithItsCdev) {
  add_vfio_device("0000:00:03.0", GroupId{2}, 7);
  const auto groups = scan(sysfs.roots());
  ASSERT_EQ(groups.size(), 1U);
  EXPECT_EQ(groups[0].id, GroupId{2});
  ASSERT_EQ(groups[0].devices.size(), 1U);
  EXPECT_EQ(groups[0].devices[0].name, "0000:00:03.0");
  EXPECT_EQ(groups[0].devices[0].cdev, sysfs.root() / "dev/vfio/devices/vfio7");
}

TEST_F(Scan, OrdersGroupsByNumber) {
  add_vfio_device("0000:00:03.0", GroupId{10}, 0);
  add_vfio_device("0000:00:04.0", GroupId{9}, 1);
  add_vfio_device("0000:00:05.0", GroupId{2}, 2);
  const auto groups = scan(sysfs.roots());
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].id, GroupId{2});
  EXPECT_EQ(groups[1].id, GroupId{9});
  EXPECT_EQ(groups[2].id, GroupId{10});
}

TEST_F(Scan, OrdersTheDevicesOfAGroupByName) {
  // Neither the order in which they come nor its reverse is the right one.
  add_vfio_device("0000:01:02.0", GroupId{6}, 0);
  add_vfio_device("0000:01:03.0", GroupId{6}, 1);
  add_vfio_device("0000:01:01.0", GroupId{6}, 2);
  const auto groups = scan(sysfs.roots());
  ASSERT_EQ(groups.size(), 1U);
  ASSERT_EQ(groups[0].devices.size(), 3U);
  EXPECT_EQ(groups[0].devices[0].name, "0000:01:01.0");
  EXPECT_EQ(groups[0].devices[1].name, "0000:01:02.0");
  EXPECT_EQ(groups[0].devices[2].name, "0000:01:03.0");
}

TEST_F(Scan, LeavesOutDevicesWithoutACdev) {
  add_vfio_device("0000:01:01.0", GroupId{6}, 0);
  sysfs.add_device("0000:01:02.0", GroupId{6}, "vfio-pci");
  sysfs.add_device("0000:00:03.0", GroupId{2}, "nvme");
  const auto groups = scan(sysfs.roots());
  ASSERT_EQ(groups.size(), 1U);
  EXPECT_EQ(groups[0].devices.size(), 1U);
}

TEST_F(Scan, LeavesOutDevicesThatNoIommuTranslatesFor) {
  sysfs.add_device_without_group("0000:00:03.0", "vfio-pci");
  sysfs.add_cdev("0000:00:03.0", 0);
  EXPECT_TRUE(scan(sysfs.roots()).empty());
}

TEST_F(Scan, LeavesOutGroupsThatAreNotNumbers) {
  sysfs.add_device_without_group("mdev", "vfio-mdev");
  sysfs.add_cdev("mdev", 0);
  const auto link = sysfs.root() / "sys/devices/pci0/mdev/iommu_group";
  for (const char *odd : {"noiommu-0", "7x", "-1", "", "99999999999"}) {
    std::filesystem::remove(link);
    std::filesystem::create_symlink(std::filesystem::path("../../../kernel/iommu_groups") / odd,
                                    link);
    EXPECT_TRUE(scan(sysfs.roots()).empty()) << odd;
  }
}

TEST_F(Scan, ForgetsADeviceThatIsUnplugged) {
  add_vfio_device("0000:00:03.0", GroupId{2}, 0);
  ASSERT_EQ(scan(sysfs.roots()).size(), 1U);
  sysfs.remove_cdev("0000:00:03.0", 0);
  EXPECT_TRUE(scan(sysfs.roots()).empty());
}

class Find : public TopologyTest {};

TEST_F(Find, FindsOneGroup) {
  add_vfio_device("0000:00:03.0", GroupId{2}, 0);
  add_vfio_device("0000:00:04.0", GroupId{3}, 1);
  const auto group = find(GroupId{3}, sysfs.roots());
  ASSERT_TRUE(group);
  EXPECT_EQ(group->id, GroupId{3});
  ASSERT_EQ(group->devices.size(), 1U);
  EXPECT_EQ(group->devices[0].name, "0000:00:04.0");
}

TEST_F(Find, KnowsNoGroupWithoutACdev) {
  sysfs.add_device("0000:00:03.0", GroupId{2}, "nvme");
  EXPECT_EQ(answer_of(find(GroupId{2}, sysfs.roots())), fails(ENODEV));
  EXPECT_EQ(answer_of(find(GroupId{77}, sysfs.roots())), fails(ENODEV));
}

class OpenCdev : public TopologyTest {
protected:
  static constexpr GroupId group{2};

  void SetUp() override { add_vfio_device("0000:00:03.0", group, 0); }

  Device device() { return find(group, sysfs.roots())->devices.at(0); }
};

TEST_F(OpenCdev, OpensTheDevice) {
  const auto file = open_cdev(device(), sysfs.roots());
  ASSERT_TRUE(file);
  EXPECT_EQ(device_behind(*file, sysfs.roots()).value(), "0000:00:03.0");
}

TEST_F(OpenCdev, RefusesAnotherDeviceThatHasTheNumberNow) {
  const Device before = device();
  sysfs.remove_cdev("0000:00:03.0", 0);
  add_vfio_device("0000:00:04.0", GroupId{3}, 0);
  EXPECT_EQ(answer_of(open_cdev(before, sysfs.roots())), fails(ENODEV));
}

TEST_F(OpenCdev, RefusesADeviceThatIsLeaving) {
  std::filesystem::remove(sysfs.root() / "sys/dev/char/1:3");
  EXPECT_EQ(answer_of(open_cdev(device(), sysfs.roots())), fails(ENODEV));
}

TEST_F(OpenCdev, RefusesADeviceThatHasLeft) {
  const Device before = device();
  sysfs.remove_cdev("0000:00:03.0", 0);
  EXPECT_EQ(answer_of(open_cdev(before, sysfs.roots())), fails(ENOENT));
}

TEST_F(OpenCdev, RefusesWhatIsNoCdev) {
  Device odd = device();
  odd.cdev = sysfs.root() / "sys/class";
  EXPECT_EQ(answer_of(open_cdev(odd, sysfs.roots())), fails(EISDIR));
  odd.cdev = "/dev/zero"; // As any driver's node: it may have the same device behind it.
  EXPECT_EQ(answer_of(open_cdev(odd, sysfs.roots())), fails(ENODEV));
  const auto cdev = sysfs.root() / "sys/devices/pci0/0000:00:03.0/vfio-dev/vfio0";
  std::filesystem::remove(cdev / "subsystem");
  std::filesystem::create_symlink("../../../../../class/nvme", cdev / "subsystem");
  EXPECT_EQ(answer_of(open_cdev(device(), sysfs.roots())), fails(ENODEV));
}

class Viable : public TopologyTest {
protected:
  static constexpr GroupId group{6};

  void SetUp() override { add_vfio_device("0000:01:01.0", group, 0); }
};

TEST_F(Viable, IsAGroupOfVfioDevicesOnly) {
  EXPECT_TRUE(viable(group, sysfs.roots()).value());
}

TEST_F(Viable, IsAGroupWithADeviceThatHasNoDriver) {
  sysfs.add_device("0000:01:02.0", group, "");
  EXPECT_TRUE(viable(group, sysfs.roots()).value());
}

TEST_F(Viable, IsAGroupWithAPortOrAStub) {
  sysfs.add_device("0000:00:07.0", group, "pcieport");
  sysfs.add_device("0000:01:02.0", group, "pci-stub");
  EXPECT_TRUE(viable(group, sysfs.roots()).value());
}

TEST_F(Viable, IsAGroupWithAVfioDriverOfAnotherName) {
  sysfs.add_device("0000:01:02.0", group, "mlx5_vfio_pci");
  sysfs.add_cdev("0000:01:02.0", 1);
  EXPECT_TRUE(viable(group, sysfs.roots()).value());
}

TEST_F(Viable, IsNotAGroupWithADeviceThatTheHostUses) {
  sysfs.add_device("0000:01:02.0", group, "e1000e");
  EXPECT_FALSE(viable(group, sysfs.roots()).value());
}

TEST_F(Viable, CannotBeToldWithoutDescriptors) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto told = answer_of(viable(group, sysfs.roots()));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(told, fails(EMFILE));
}

TEST_F(Viable, DoesNotLookAtOtherGroups) {
  sysfs.add_device("0000:00:03.0", GroupId{2}, "nvme");
  EXPECT_TRUE(viable(group, sysfs.roots()).value());
  EXPECT_FALSE(viable(GroupId{2}, sysfs.roots()).value());
}

} // namespace
} // namespace vfio_shim::topology
