// SPDX-License-Identifier: MIT
#include "cli/human.hpp"
#include "cli/status.hpp"
#include "cli/status_report.hpp"
#include "observe/ledger_layout.hpp"
#include "observe/shared_ledger.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/ledger_place.hpp"

namespace vfio_shim::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using observe::LedgerReader;
using observe::SharedLedger;
using observe::Snapshot;
using observe::Time;

const Time noon = Time{1'800'000'000s};

/// QEMU with two groups and a mapping, and DPDK, which has just started.
DaemonStatus busy_daemon() {
  const Snapshot::Client qemu{.pid = Pid{1234}, .command = "qemu-system-x86"};
  DaemonStatus daemon{.snapshot = {},
                      .nodes = {.container = true, .groups = {GroupId{2}, GroupId{6}}}};
  daemon.snapshot.daemon = {
      .pid = Pid{4242}, .alive = true, .since = noon - 3min, .prefix = "vfio", .kernel = "7.2.13"};
  daemon.snapshot.containers = {
      {.id = 1,
       .client = qemu,
       .opened = noon - 2min,
       .iommu_type = VFIO_TYPE1v2_IOMMU,
       .mappings = 12,
       .mapped_bytes = Bytes{(256ULL << 20) + (512 << 10)},
       .maps = 14,
       .unmaps = 2,
       .groups = {{.id = 2,
                   .number = GroupId{2},
                   .client = qemu,
                   .opened = noon,
                   .devices = {"0000:00:03.0"}},
                  {.id = 3,
                   .number = GroupId{6},
                   .client = {.pid = Pid{99}, .command = "helper"},
                   .opened = noon,
                   .devices = {}}},
       .mapping_list = {{.iova = Iova{0x1000},
                         .vaddr = ClientAddr{0x7f0000000000},
                         .size = Bytes{0x2000},
                         .access = {.read = true, .write = false}}}},
      {.id = 5,
       .client = {.pid = Pid{1300}, .command = "dpdk-testpmd"},
       .opened = noon - 5s,
       .iommu_type = 0,
       .mappings = 0,
       .mapped_bytes = Bytes{0},
       .maps = 0,
       .unmaps = 0,
       .groups = {},
       .mapping_list = {}},
  };
  return daemon;
}

/// The line of @p text that has all of @p parts, in order; "" if there is none.
std::string line_with(const std::string &text, const std::vector<std::string> &parts) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::size_t from = 0;
    bool all = true;
    for (const std::string &part : parts) {
      const auto at = line.find(part, from);
      all = all && at != std::string::npos;
      if (all)
        from = at + part.size();
    }
    if (all)
      return line;
  }
  return {};
}

#define EXPECT_LINE(text, ...)                                                                     \
  EXPECT_NE(line_with(text, std::vector<std::string>{__VA_ARGS__}), "") << (text)
#define EXPECT_NO_LINE(text, ...)                                                                  \
  EXPECT_EQ(line_with(text, std::vector<std::string>{__VA_ARGS__}), "")

TEST(StatusTextTest, TellsWhoServesWhat) {
  const auto text = status_text(busy_daemon(), noon);
  EXPECT_LINE(text, "4242", "/dev/vfio", "3 min");
  EXPECT_LINE(text, "container", "groups 2 6");
}

TEST(StatusTextTest, TellsWhoHasWhat) {
  const auto text = status_text(busy_daemon(), noon);
  EXPECT_LINE(text, "1", "qemu-system-x86[1234]", "TYPE1v2", "12", "256.5 MiB", "2 min");
  EXPECT_LINE(text, "group 2", "0000:00:03.0");
  EXPECT_LINE(text, "group 6", "no device open", "helper[99]");
  EXPECT_LINE(text, "5", "dpdk-testpmd[1300]", "none set", "0", "0 B", "5 s");
  EXPECT_NO_LINE(text, "group 2",
                 "opened by"); // By the container's own client: goes without saying.
}

TEST(StatusTextTest, AlignsItsColumns) {
  const auto text = status_text(busy_daemon(), noon);
  const auto head = line_with(text, {"CONTAINER", "CLIENT", "IOMMU", "MAPPINGS"});
  const auto first = line_with(text, {"qemu-system-x86[1234]"});
  const auto second = line_with(text, {"dpdk-testpmd[1300]"});
  EXPECT_EQ(head.find("CLIENT"), first.find("qemu"));
  EXPECT_EQ(head.find("CLIENT"), second.find("dpdk"));
  EXPECT_EQ(head.find("IOMMU"), first.find("TYPE1v2"));
  EXPECT_EQ(head.find("MAPPINGS") + 8, first.find(" 12 ") + 3);
  EXPECT_NE(head.back(), ' ');
}

TEST(StatusTextTest, ListsMappingsIfThereAreSome) {
  EXPECT_LINE(status_text(busy_daemon(), noon), "0x000000001000", "0x7f0000000000", "8 KiB", "r-");
}

TEST(StatusTextTest, SaysThatNothingIsOpen) {
  auto daemon = busy_daemon();
  daemon.snapshot.containers.clear();
  daemon.nodes = {};
  const auto text = status_text(daemon, noon);
  EXPECT_LINE(text, "no container is open");
  EXPECT_LINE(text, "no groups");
}

TEST(StatusTextTest, ShowsGroupsInNoContainer) {
  auto daemon = busy_daemon();
  daemon.snapshot.groups_without_container = {{.id = 7,
                                               .number = GroupId{9},
                                               .client = {.pid = Pid{7}, .command = "probe"},
                                               .opened = noon,
                                               .devices = {}}};
  const auto text = status_text(daemon, noon);
  EXPECT_LINE(text, "in no container");
  EXPECT_LINE(text, "group 9", "probe[7]");
}

TEST(StatusTextTest, SaysThatTheDaemonIsDead) {
  auto daemon = busy_daemon();
  daemon.snapshot.daemon.alive = false;
  daemon.snapshot.torn = 1;
  const auto text = status_text(daemon, noon);
  EXPECT_LINE(text, "4242", "dead");
  EXPECT_LINE(text, "1 record is half-written");
  EXPECT_NO_LINE(text, "nodes:");
  EXPECT_LINE(text, "qemu-system-x86[1234]");
}

TEST(StatusTextTest, TellsOfWhatWasRefused) {
  auto daemon = busy_daemon();
  daemon.snapshot.refused = 3;
  const auto text = status_text(daemon, noon);
  EXPECT_LINE(text, "no room 3 times");
}

TEST(StatusTextTest, IsSafeForTheTerminalWhateverClientsCallThemselves) {
  auto daemon = busy_daemon();
  daemon.snapshot.containers[0].client.command = "\x1b[2J\xff\n";
  daemon.snapshot.containers[0].groups[0].devices = {"\x07"};
  for (const char byte : status_text(daemon, noon))
    EXPECT_TRUE(byte == '\n' || (byte >= ' ' && byte <= '~'));
}

TEST(StatusJsonTest, HasTheKeysThatAreDocumented) {
  const json object =
      json::parse(status_json(busy_daemon(), LedgerReader::Mappings::listed).dump());
  EXPECT_EQ(object.at("prefix"), "vfio");
  EXPECT_EQ(object.at("pid"), 4242);
  EXPECT_EQ(object.at("alive"), true);
  EXPECT_EQ(object.at("since"), "2027-01-15T07:57:00Z");
  EXPECT_EQ(object.at("kernel"), "7.2.13");
  EXPECT_EQ(object.at("nodes"),
            json::parse(R"({"container": true, "groups": [2, 6], "kept_by_kernel": []})"));
  EXPECT_EQ(object.at("records_refused"), 0);
  EXPECT_EQ(object.at("records_torn"), 0);
  EXPECT_EQ(object.at("groups_without_container"), json::array());
  EXPECT_EQ(object.at("containers").at(0), json::parse(R"({
    "id": 1,
    "client": {"pid": 1234, "command": "qemu-system-x86"},
    "opened": "2027-01-15T07:58:00Z",
    "iommu_type": "TYPE1v2",
    "express": false,
    "mappings": {"count": 12, "bytes": 268959744, "unrecorded": 0, "mapped": 14, "unmapped": 2},
    "groups": [
      {"id": 2, "group": 2, "client": {"pid": 1234, "command": "qemu-system-x86"},
       "opened": "2027-01-15T08:00:00Z", "devices": ["0000:00:03.0"]},
      {"id": 3, "group": 6, "client": {"pid": 99, "command": "helper"},
       "opened": "2027-01-15T08:00:00Z", "devices": []}
    ],
    "mapping_list": [
      {"iova": "0x1000", "vaddr": "0x7f0000000000", "size": 8192, "read": true, "write": false}
    ]
  })"));
  EXPECT_TRUE(object.at("containers").at(1).at("iommu_type").is_null());
}

TEST(StatusJsonTest, ListsMappingsOnlyWhenAsked) {
  const auto object = status_json(busy_daemon(), LedgerReader::Mappings::counted);
  EXPECT_FALSE(object.at("containers").at(0).contains("mapping_list"));
}

TEST(HumanNumbersTest, AreShort) {
  EXPECT_EQ(human_bytes(Bytes{0}), "0 B");
  EXPECT_EQ(human_bytes(Bytes{1023}), "1023 B");
  EXPECT_EQ(human_bytes(Bytes{4096}), "4 KiB");
  EXPECT_EQ(human_bytes(Bytes{3 << 19}), "1.5 MiB");
  EXPECT_EQ(human_bytes(Bytes{64ULL << 30}), "64 GiB");
  EXPECT_EQ(human_bytes(Bytes{UINT64_MAX}), "16.0 EiB");
  EXPECT_EQ(human_duration(-5s), "0 s");
  EXPECT_EQ(human_duration(59s), "59 s");
  EXPECT_EQ(human_duration(60s), "1 min");
  EXPECT_EQ(human_duration(2h + 5min + 1s), "2 h 5 min");
  EXPECT_EQ(human_duration(76h), "3 d 4 h");
}

TEST(NodesTest, AreThoseThatAreThere) {
  const auto dev =
      std::filesystem::temp_directory_path() / fmt::format("status-test.{}", ::getpid());
  std::filesystem::create_directories(dev / "vfio/devices");
  for (const std::string name : {"vfio", "12", "3", "noiommu-0"})
    std::ofstream(dev / "vfio" / name).put('\n');
  const auto nodes = find_nodes("vfio", {.sys = "/sys", .dev = dev});
  const auto none = find_nodes("elsewhere", {.sys = "/sys", .dev = dev});
  std::filesystem::remove_all(dev);
  EXPECT_TRUE(nodes.container);
  EXPECT_EQ(nodes.groups, (std::vector{GroupId{3}, GroupId{12}}));
  EXPECT_FALSE(none.container);
  EXPECT_TRUE(none.groups.empty());
}

TEST(NodesTest, TellsTheKernelsOwnFromOurs) {
  const auto root =
      std::filesystem::temp_directory_path() / fmt::format("status-test.{}", ::getpid());
  const auto kernels = [&root](const std::string &node, const std::string &entry) {
    std::filesystem::create_symlink("/dev/null", root / "dev/vfio" / node); // 1:3
    std::filesystem::create_directories(root / "sys/class" / entry);
    std::ofstream(root / "sys/class" / entry / "dev") << "1:3\n";
  };
  std::filesystem::create_directories(root / "dev/vfio");
  kernels("vfio", "misc/vfio");
  kernels("7", "vfio/7");
  kernels("5", "vfio/5");
  std::filesystem::create_symlink("/dev/zero", root / "dev/vfio/6"); // Ours; the kernel's is aside.
  std::filesystem::create_directories(root / "sys/class/vfio/6");
  std::ofstream(root / "sys/class/vfio/6/dev") << "1:3\n";
  const topology::Roots roots{.sys = root / "sys", .dev = root / "dev"};
  const auto without = find_nodes("vfio", roots);
  std::ofstream(root / "dev/vfio/vfio-shim").put('\n');
  const auto with = find_nodes("vfio", roots);
  std::filesystem::remove_all(root);
  EXPECT_FALSE(without.container);
  EXPECT_TRUE(with.container);
  EXPECT_EQ(with.groups, std::vector{GroupId{6}});
  EXPECT_EQ(with.kept_by_kernel, (std::vector{GroupId{5}, GroupId{7}}));
}

// --- the command, on a ledger of our own

class StatusCommandTest : public testing::Test {
protected:
  std::filesystem::path path() const {
    return place.directory() / observe::layout::file_name(options.prefix);
  }

  void create() {
    auto created = SharedLedger::create(options.prefix, {}, options.ledgers);
    ASSERT_TRUE(created) << created.error().describe();
    ledger = std::move(*created);
  }

  int run() {
    out.str("");
    err.str("");
    return status(options, out, err);
  }
  json printed() const { return json::parse(out.str()); }

  test::LedgerPlace place;
  StatusOptions options{.prefix = "status-test/1",
                        .json = false,
                        .mappings = false,
                        .roots = {},
                        .ledgers = place.directory()};
  std::unique_ptr<SharedLedger> ledger;
  std::ostringstream out;
  std::ostringstream err;
};

TEST_F(StatusCommandTest, WithoutADaemonSaysSoInOneLine) {
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(out.str(), "");
  EXPECT_EQ(std::ranges::count(err.str(), '\n'), 1);
  EXPECT_LINE(err.str(), options.prefix, "vfio-shim serve");

  options.json = true;
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(printed(), json::parse(R"({"daemons": [], "unreadable": []})"));
  EXPECT_EQ(err.str(), "");
}

TEST_F(StatusCommandTest, ShowsALivingDaemon) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), Pid{::getpid()});
  ledger->mapped(container, {.iova = Iova{0x1000},
                             .vaddr = ClientAddr{0x2000},
                             .size = Bytes{0x1000},
                             .access = {.read = true, .write = true}});
  EXPECT_EQ(run(), 0);
  EXPECT_LINE(out.str(), fmt::format("pid {}", ::getpid()), options.prefix);
  EXPECT_LINE(out.str(), fmt::format("[{}]", ::getpid()), "4 KiB");
  EXPECT_NO_LINE(out.str(), "iova");

  options.mappings = true;
  EXPECT_EQ(run(), 0);
  EXPECT_LINE(out.str(), "iova 0x000000001000", "rw");

  options.json = true;
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(printed().at("daemons").at(0).at("containers").at(0).at("mapping_list").size(), 1U);
}

TEST_F(StatusCommandTest, FindsDaemonsByItself) {
  create();
  const auto prefix = std::exchange(options.prefix, "");
  options.json = true;
  EXPECT_EQ(run(), 0);
  const auto all = printed().at("daemons");
  EXPECT_TRUE(
      std::ranges::any_of(all, [&](const json &one) { return one.at("prefix") == prefix; }));
  options.prefix = prefix;
}

TEST_F(StatusCommandTest, TellsOfADeadDaemonAndFails) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto left = SharedLedger::create(options.prefix, {}, options.ledgers);
    if (left)
      (void)left->release(); // Killed: no destructor runs.
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(run(), 1);
  EXPECT_LINE(out.str(), fmt::format("pid {}", child), "dead");
}

TEST_F(StatusCommandTest, PrintsNamesThatAreNoUtf8) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), Pid{::getpid()});
  const auto group = ledger->group_opened(ledger->next_file(), GroupId{1}, Pid{::getpid()});
  ledger->group_moved(group, container);
  ledger->device_opened(group, "\xff\xfe");
  options.json = true;
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(printed().at("daemons").size(), 1U);
}

TEST_F(StatusCommandTest, SaysWhyALedgerCannotBeRead) {
  std::ofstream(path()) << "nonsense";
  EXPECT_EQ(run(), 1);
  EXPECT_LINE(err.str(), options.prefix, "EPROTO");
  options.json = true;
  EXPECT_EQ(run(), 1);
  EXPECT_EQ(printed().at("unreadable").at(0).at("prefix"), options.prefix);
  EXPECT_EQ(printed().at("unreadable").at(0).at("error"), "EPROTO");
}

} // namespace
} // namespace vfio_shim::cli
