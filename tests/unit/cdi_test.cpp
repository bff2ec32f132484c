// SPDX-License-Identifier: MIT
/// @file
/// What container engines are told of the groups.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "daemon/cdi.hpp"
#include "support/answer.hpp"
#include "support/ledger_place.hpp"

namespace vfio_shim::daemon {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::answer_of;
using test::succeeds;

const topology::Group nic{.id = GroupId{7},
                          .devices = {{.name = "0000:03:00.0", .cdev = "/dev/vfio/devices/vfio2"}}};
const topology::Group two{.id = GroupId{12},
                          .devices = {{.name = "0000:05:01.0", .cdev = "/dev/vfio/devices/vfio0"},
                                      {.name = "0000:05:02.0", .cdev = "/dev/vfio/devices/vfio1"}}};

json specification(CdiApi api, const std::vector<topology::Group> &groups,
                   const std::string &prefix = "vfio") {
  return cdi_specification(api, groups, prefix);
}

std::vector<std::string> names(const json &specification) {
  std::vector<std::string> names;
  for (const auto &device : specification.at("devices"))
    names.push_back(device.at("name"));
  return names;
}

/// Each node, and for each that is mounted "on the host -> in the container".
std::vector<std::string> nodes(const json &edited) {
  const auto &edits = edited.at("containerEdits");
  std::vector<std::string> nodes;
  for (const auto &node : edits.at("deviceNodes"))
    nodes.push_back(node.at("path"));
  for (const auto &mount : edits.value("mounts", json::array()))
    nodes.push_back(fmt::format("{} -> {}", mount.at("hostPath").get<std::string>(),
                                mount.at("containerPath").get<std::string>()));
  return nodes;
}

std::vector<std::string> nodes_of(const json &specification, const std::string &name) {
  for (const auto &device : specification.at("devices"))
    if (device.at("name") == name)
      return nodes(device);
  return {"there is no " + name};
}

using Strings = std::vector<std::string>;

TEST(Cdi, NamesAGroupByItsDevicesAndItsNumber) {
  EXPECT_EQ(names(specification(CdiApi::legacy, {nic, two})),
            (Strings{"0000:03:00.0", "7", "0000:05:01.0", "0000:05:02.0", "12"}));
}

TEST(Cdi, EachNameOfAGroupBringsItsNode) {
  const auto made = specification(CdiApi::legacy, {nic, two});
  EXPECT_EQ(nodes_of(made, "7"), (Strings{"/dev/vfio/7"}));
  for (const auto *name : {"0000:05:01.0", "0000:05:02.0", "12"})
    EXPECT_EQ(nodes_of(made, name), (Strings{"/dev/vfio/12"})) << name;
}

TEST(Cdi, TheContainerNodeComesWithEveryGroup) {
  EXPECT_EQ(nodes(specification(CdiApi::legacy, {nic, two})), (Strings{"/dev/vfio/vfio"}));
}

TEST(Cdi, NodesOfAnotherPrefixAreWhereLegacyProgramsLook) {
  const auto made = specification(CdiApi::legacy, {nic}, "vfio-shim");
  EXPECT_EQ(nodes(made), (Strings{"/dev/vfio-shim/vfio", "/dev/vfio-shim/vfio -> /dev/vfio/vfio"}));
  EXPECT_EQ(nodes_of(made, "0000:03:00.0"),
            (Strings{"/dev/vfio-shim/7", "/dev/vfio-shim/7 -> /dev/vfio/7"}));
}

TEST(Cdi, ForIommufdAGroupIsItsCdevs) {
  const auto made = specification(CdiApi::iommufd, {nic, two}, "vfio-shim");
  EXPECT_EQ(nodes(made), (Strings{"/dev/iommu"}));
  EXPECT_EQ(nodes_of(made, "0000:05:02.0"),
            (Strings{"/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio1"}));
}

TEST(Cdi, TheApisHaveKindsAndFilesOfTheirOwn) {
  EXPECT_EQ(specification(CdiApi::legacy, {nic}).at("kind"), "vfio-shim/group");
  EXPECT_EQ(specification(CdiApi::iommufd, {nic}).at("kind"), "vfio-shim/iommufd");
  EXPECT_NE(cdi_file_name(CdiApi::legacy), cdi_file_name(CdiApi::iommufd));
}

TEST(Cdi, NamesNoDeviceNumbers) {
  const std::string text = specification(CdiApi::legacy, {nic, two}, "vfio-shim").dump();
  EXPECT_EQ(text.find("major"), std::string::npos);
  EXPECT_EQ(text.find("minor"), std::string::npos);
}

class CdiFileTest : public testing::Test {
protected:
  test::LedgerPlace place;
  fs::path directory = place.directory() / "new/cdi";
  fs::path file = directory / "vfio-shim-group.json";

  json content() const {
    std::ifstream in(file);
    return json::parse(in, nullptr, false);
  }
};

TEST_F(CdiFileTest, FollowsTheGroups) {
  CdiFile cdi(directory, "vfio");
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  EXPECT_EQ(names(content()), (Strings{"0000:03:00.0", "7"}));
  ASSERT_EQ(answer_of(cdi.follow({nic, two})), succeeds);
  EXPECT_EQ(names(content()).size(), 5U);
  ASSERT_EQ(answer_of(cdi.follow({two})), succeeds);
  EXPECT_EQ(names(content()), (Strings{"0000:05:01.0", "0000:05:02.0", "12"}));
}

TEST_F(CdiFileTest, IsNotThereWithoutGroups) {
  CdiFile cdi(directory, "vfio");
  ASSERT_EQ(answer_of(cdi.follow({})), succeeds);
  EXPECT_FALSE(fs::exists(file));
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  ASSERT_EQ(answer_of(cdi.follow({})), succeeds);
  EXPECT_FALSE(fs::exists(file));
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  EXPECT_TRUE(fs::exists(file));
}

TEST_F(CdiFileTest, GoesWhenItIsTold) {
  {
    CdiFile cdi(directory, "vfio");
    ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  }
  EXPECT_TRUE(fs::exists(file)) << "as when a worker dies";
  CdiFile next(directory, "vfio");
  ASSERT_EQ(answer_of(next.remove()), succeeds);
  EXPECT_TRUE(fs::is_empty(directory));
  EXPECT_EQ(answer_of(next.remove()), succeeds) << "there is nothing to remove";
}

TEST_F(CdiFileTest, OfAnEarlierDaemonIsReplaced) {
  fs::create_directories(directory);
  std::ofstream(file) << "what a killed daemon has left";
  CdiFile cdi(directory, "vfio");
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  EXPECT_EQ(names(content()), (Strings{"0000:03:00.0", "7"}));
}

TEST_F(CdiFileTest, IsEverybodysToRead) {
  const mode_t before = ::umask(077);
  CdiFile cdi(directory.parent_path(), "vfio"); // An ancestor that is there.
  fs::create_directories(directory.parent_path());
  const auto written = answer_of(cdi.follow({nic}));
  ::umask(before);
  ASSERT_EQ(written, succeeds);
  struct stat found {};
  ASSERT_EQ(::stat((directory.parent_path() / file.filename()).c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0644U) << "rootless engines read it";
}

TEST_F(CdiFileTest, IsWrittenAnewOnlyWhenSomethingChanges) {
  CdiFile cdi(directory, "vfio");
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  struct stat before {};
  ASSERT_EQ(::stat(file.c_str(), &before), 0);
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  struct stat after {};
  ASSERT_EQ(::stat(file.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(CdiFileTest, ThatCannotBeWrittenIsAnError) {
  std::ofstream(place.directory() / "new") << "a file where a directory should be";
  CdiFile cdi(directory, "vfio");
  EXPECT_EQ(answer_of(cdi.follow({nic})), test::fails(ENOTDIR));
  EXPECT_EQ(answer_of(cdi.remove()), succeeds);
}

TEST_F(CdiFileTest, ThatNobodyWantsIsNotWritten) {
  CdiFile cdi("", "vfio");
  ASSERT_EQ(answer_of(cdi.follow({nic})), succeeds);
  EXPECT_EQ(answer_of(cdi.remove()), succeeds);
  EXPECT_TRUE(fs::is_empty(place.directory()));
}

} // namespace
} // namespace vfio_shim::daemon
