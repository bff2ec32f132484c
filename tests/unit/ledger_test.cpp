// SPDX-License-Identifier: MIT
#include "observe/ledger_layout.hpp"
#include "observe/ledger_reader.hpp"
#include "observe/process_identity.hpp"
#include "observe/shared_ledger.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/answer.hpp"
#include "support/fake_sysfs.hpp"
#include "support/ledger_place.hpp"

namespace vfio_shim::observe {
namespace {

using test::answer_of;
using test::fails;
using test::succeeds;

constexpr Bytes page{0x1000};
constexpr Access both{.read = true, .write = true};
constexpr Pid nobody{0x7ffffffe}; // Above the kernel's largest pid.

MappingEntry page_at(std::uint64_t iova) {
  return {
      .iova = Iova{iova}, .vaddr = ClientAddr{iova + 0x7f0000000000}, .size = page, .access = both};
}

/// Runs @p body in a process of its own. @return What it returned, or -1 if it did not get there.
template <typename Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0)
    ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A place that no other test uses, and no trace of it afterwards.
class LedgerTest : public testing::Test {
protected:
  void create(LedgerCapacity capacity = {}) {
    auto created = SharedLedger::create(prefix, capacity, directory);
    ASSERT_TRUE(created) << created.error().describe();
    ledger = std::move(*created);
  }

  std::string path() const { return directory / layout::file_name(prefix); }

  Snapshot snapshot(LedgerReader::Mappings mappings = LedgerReader::Mappings::listed) const {
    const auto reader = LedgerReader::open(prefix, directory);
    if (!reader) {
      ADD_FAILURE() << reader.error().describe();
      return {};
    }
    return reader->snapshot(mappings);
  }

  /// Memory that the region takes, of whatever size it is.
  std::uint64_t memory_used() const {
    struct stat status {};
    ::stat(path().c_str(), &status);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }

  test::LedgerPlace place;
  const std::filesystem::path &directory = place.directory();
  const std::string prefix = "unit-test/1";
  const Pid self{::getpid()};
  std::unique_ptr<SharedLedger> ledger;
};

TEST_F(LedgerTest, SaysWhoseItIs) {
  create();
  const auto daemon = snapshot().daemon;
  EXPECT_EQ(daemon.pid, self);
  EXPECT_TRUE(daemon.alive);
  EXPECT_EQ(daemon.prefix, prefix);
  EXPECT_FALSE(daemon.kernel.empty());
  EXPECT_LT(std::chrono::system_clock::now() - daemon.since, std::chrono::minutes(1));
}

TEST_F(LedgerTest, IsRootsAloneAndGoesWithItsDaemon) {
  create();
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  ledger.reset();
  EXPECT_NE(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(ENOENT));
}

TEST_F(LedgerTest, NamesOpenFilesByTheirNumbers) {
  create();
  const auto unused = ledger->next_file();
  const auto first = ledger->next_file();
  const auto second = ledger->next_file();
  EXPECT_LT(unused, first);
  EXPECT_LT(first, second);
  // The order in which they are recorded plays no part.
  const auto group = ledger->group_opened(second, GroupId{7}, self);
  const auto container = ledger->container_opened(first, self);
  ledger->group_moved(group, container);
  const auto seen = snapshot();
  ASSERT_EQ(seen.containers.size(), 1U);
  EXPECT_EQ(seen.containers[0].id, first.value);
  ASSERT_EQ(seen.containers[0].groups.size(), 1U);
  EXPECT_EQ(seen.containers[0].groups[0].id, second.value);
}

TEST_F(LedgerTest, ShowsContainersGroupsAndDevices) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto other = ledger->container_opened(ledger->next_file(), self);
  const auto group = ledger->group_opened(ledger->next_file(), GroupId{7}, self);
  const auto lower = ledger->group_opened(ledger->next_file(), GroupId{3}, self);
  const auto loner = ledger->group_opened(ledger->next_file(), GroupId{9}, self);
  for (const auto record : {container, other, group, lower, loner})
    ASSERT_NE(record, 0U);
  ledger->iommu_set(container, VFIO_TYPE1v2_IOMMU);
  ledger->group_moved(group, container);
  ledger->group_moved(lower, container);
  ASSERT_NE(ledger->device_opened(group, "0000:01:02.0"), 0U);
  ASSERT_NE(ledger->device_opened(group, "0000:01:01.0"), 0U);

  const auto seen = snapshot();
  ASSERT_EQ(seen.containers.size(), 2U);
  EXPECT_LT(seen.containers[0].id, seen.containers[1].id);
  EXPECT_EQ(seen.containers[0].iommu_type, std::uint32_t{VFIO_TYPE1v2_IOMMU});
  EXPECT_EQ(seen.containers[1].iommu_type, 0U);
  EXPECT_EQ(seen.containers[0].client.pid, self);
  EXPECT_EQ(seen.containers[0].client.command, identify(self).command);
  ASSERT_EQ(seen.containers[0].groups.size(), 2U);
  EXPECT_EQ(seen.containers[0].groups[0].number, GroupId{3});
  EXPECT_EQ(seen.containers[0].groups[1].number, GroupId{7});
  EXPECT_EQ(seen.containers[0].groups[1].devices,
            (std::vector<std::string>{"0000:01:01.0", "0000:01:02.0"}));
  ASSERT_EQ(seen.groups_without_container.size(), 1U);
  EXPECT_EQ(seen.groups_without_container[0].number, GroupId{9});
}

TEST_F(LedgerTest, ForgetsWhatHasGone) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto group = ledger->group_opened(ledger->next_file(), GroupId{1}, self);
  ledger->group_moved(group, container);
  const auto device = ledger->device_opened(group, "0000:00:02.0");

  ledger->device_gone(device);
  EXPECT_TRUE(snapshot().containers.at(0).groups.at(0).devices.empty());
  ledger->group_moved(group, 0);
  EXPECT_TRUE(snapshot().containers.at(0).groups.empty());
  EXPECT_EQ(snapshot().groups_without_container.size(), 1U);
  ledger->group_gone(group);
  EXPECT_TRUE(snapshot().groups_without_container.empty());
  ledger->container_gone(container);
  EXPECT_TRUE(snapshot().containers.empty());
}

TEST_F(LedgerTest, CountsAndListsMappings) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto second = ledger->mapped(container, page_at(0x2000));
  ledger->mapped(container, {.iova = Iova{0x1000},
                             .vaddr = ClientAddr{0x7000},
                             .size = page,
                             .access = {.read = true, .write = false}});
  ledger->mapped(container, {.iova = Iova{1ULL << 40},
                             .vaddr = ClientAddr{0x200000},
                             .size = Bytes{1ULL << 30},
                             .access = {.read = false, .write = true}});
  ledger->unmapped(container, second);

  const auto seen = snapshot().containers.at(0);
  EXPECT_EQ(seen.mappings, 2U);
  EXPECT_EQ(seen.mapped_bytes, Bytes{(1ULL << 30) + 0x1000});
  EXPECT_EQ(seen.maps, 3U);
  EXPECT_EQ(seen.unmaps, 1U);
  ASSERT_EQ(seen.mapping_list.size(), 2U);
  EXPECT_EQ(seen.mapping_list[0].iova, Iova{0x1000});
  EXPECT_EQ(seen.mapping_list[0].vaddr, ClientAddr{0x7000});
  EXPECT_EQ(seen.mapping_list[0].size, page);
  EXPECT_EQ(seen.mapping_list[0].access, (Access{.read = true, .write = false}));
  EXPECT_EQ(seen.mapping_list[1].access, (Access{.read = false, .write = true}));
  EXPECT_TRUE(snapshot(LedgerReader::Mappings::counted).containers.at(0).mapping_list.empty());
}

TEST_F(LedgerTest, ShowsAVaddrThatChanges) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto mapping = ledger->mapped(container, page_at(0x1000));
  ledger->vaddr_changed(container, mapping, std::nullopt);
  auto seen = snapshot().containers.at(0).mapping_list.at(0);
  EXPECT_EQ(seen.vaddr, std::nullopt);
  EXPECT_EQ(seen.access, both);
  ledger->vaddr_changed(container, mapping, ClientAddr{0x5000});
  seen = snapshot().containers.at(0).mapping_list.at(0);
  EXPECT_EQ(seen.vaddr, ClientAddr{0x5000});
  EXPECT_EQ(seen.access, both);
}

TEST_F(LedgerTest, UsesSlotsAgainButNotIds) {
  create();
  const auto first = ledger->container_opened(ledger->next_file(), self);
  const auto first_id = snapshot().containers.at(0).id;
  // A group that has not noticed yet that its container went.
  ledger->group_moved(ledger->group_opened(ledger->next_file(), GroupId{1}, self), first);
  ledger->container_gone(first);
  EXPECT_EQ(ledger->container_opened(ledger->next_file(), self), first);

  const auto seen = snapshot();
  EXPECT_GT(seen.containers.at(0).id, first_id);
  EXPECT_TRUE(seen.containers.at(0).groups.empty());
  EXPECT_EQ(seen.groups_without_container.size(), 1U);
}

TEST_F(LedgerTest, KnowsClientsByTheNameTheyHad) {
  create();
  ASSERT_EQ(in_child([&] {
              ::prctl(PR_SET_NAME, "\x1b[31m(a) b");
              return ledger->container_opened(ledger->next_file(), Pid{::getpid()}) != 0 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(snapshot().containers.at(0).client.command, "?[31m(a) b");
}

TEST_F(LedgerTest, RecordsAClientThatHasDiedAlready) {
  create();
  EXPECT_NE(ledger->container_opened(ledger->next_file(), nobody), 0U);
  EXPECT_EQ(snapshot().containers.at(0).client.pid, nobody);
  EXPECT_EQ(snapshot().containers.at(0).client.command, "");
}

TEST_F(LedgerTest, CutsNamesThatAreTooLong) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto group = ledger->group_opened(ledger->next_file(), GroupId{1}, self);
  ledger->group_moved(group, container);
  ledger->device_opened(group, std::string(200, 'x'));
  EXPECT_EQ(snapshot().containers.at(0).groups.at(0).devices.at(0), std::string(63, 'x'));
}

// --- a full ledger

TEST_F(LedgerTest, WithoutRoomForMappingsRefusesThem) {
  create({.containers = 4, .groups = 4, .devices = 4, .mappings = 3});
  const auto container = ledger->container_opened(ledger->next_file(), self);
  std::vector<Ledger::Record> records;
  for (std::uint64_t index = 0; index < 3; ++index)
    records.push_back(ledger->mapped(container, page_at(index * page.value)));
  EXPECT_EQ(std::ranges::count(records, 0U), 0);
  EXPECT_EQ(ledger->mapped(container, page_at(3 * page.value)), 0U);
  EXPECT_EQ(ledger->mapped(container, page_at(4 * page.value)), 0U);

  auto seen = snapshot();
  EXPECT_EQ(seen.containers.at(0).mappings, 3U);
  EXPECT_EQ(seen.containers.at(0).maps, 3U);
  EXPECT_EQ(seen.containers.at(0).mapped_bytes, Bytes{3 * page.value});
  EXPECT_EQ(seen.containers.at(0).mapping_list.size(), 3U);
  EXPECT_EQ(seen.refused, 2U);

  for (const auto record : records)
    ledger->unmapped(container, record);
  seen = snapshot();
  EXPECT_EQ(seen.containers.at(0).mappings, 0U);
  EXPECT_EQ(seen.containers.at(0).mapped_bytes, Bytes{0});
  EXPECT_NE(ledger->mapped(container, page_at(0)), 0U);
}

TEST_F(LedgerTest, WithoutRoomRefusesContainersGroupsAndDevices) {
  create({.containers = 1, .groups = 1, .devices = 1, .mappings = 10});
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto group = ledger->group_opened(ledger->next_file(), GroupId{1}, self);
  const auto device = ledger->device_opened(group, "0000:00:02.0");
  EXPECT_EQ(ledger->container_opened(ledger->next_file(), self), 0U);
  EXPECT_EQ(ledger->group_opened(ledger->next_file(), GroupId{2}, self), 0U);
  EXPECT_EQ(ledger->device_opened(group, "0000:00:03.0"), 0U);
  EXPECT_EQ(snapshot().refused, 3U);
  EXPECT_EQ(snapshot().containers.size(), 1U);

  ledger->device_gone(device);
  ledger->group_gone(group);
  ledger->container_gone(container);
  EXPECT_NE(ledger->container_opened(ledger->next_file(), self), 0U);
  EXPECT_NE(ledger->group_opened(ledger->next_file(), GroupId{2}, self), 0U);
}

TEST_F(LedgerTest, LeavesSomeOfAFileSystemToOthers) {
  const int status = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m,mode=755") != 0)
      return 77;
    auto created = SharedLedger::create(prefix, {}, directory);
    if (!created)
      return 1;
    const auto container = (*created)->container_opened((*created)->next_file(), self);
    std::vector<Ledger::Record> records;
    for (std::uint64_t index = 0; index < 100'000; ++index)
      if (const auto record = (*created)->mapped(container, page_at(index * page.value)))
        records.push_back(record);
    const auto reader = LedgerReader::open(prefix, directory);
    if (!reader || reader->snapshot().containers.at(0).mappings != records.size())
      return 2;
    if (records.empty() || records.size() > 1024 * 1024 / 48)
      return 3;
    std::ofstream(directory / "other") << std::string(64 << 10, 'x');
    if (std::filesystem::file_size(directory / "other") != 64 << 10)
      return 4;
    for (const auto record : records)
      (*created)->unmapped(container, record);
    if (reader->snapshot().containers.at(0).mappings != 0)
      return 5;
    return (*created)->mapped(container, page_at(0)) != 0 ? 0 : 6;
  });
  if (status == 77)
    GTEST_SKIP() << "may not mount";
  EXPECT_EQ(status, 0);
}

// --- memory

TEST_F(LedgerTest, TakesNoMoreMemoryThanItsMappingsNeed) {
  constexpr std::uint64_t count = 200'000;
  create();
  EXPECT_LE(memory_used(), sizeof(Statistics) + (8U << 10U));
  const auto container = ledger->container_opened(ledger->next_file(), self);
  const auto before = memory_used();
  for (std::uint64_t index = 0; index < count; ++index)
    ledger->mapped(container, page_at(index * page.value));
  const auto per_mapping = static_cast<double>(memory_used() - before) / count;
  RecordProperty("bytes_per_mapping", std::to_string(per_mapping));
  EXPECT_LE(per_mapping, 50);
}

TEST_F(LedgerTest, TakesNoMemoryToBeRead) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  ledger->mapped(container, page_at(0));
  const auto before = memory_used();
  (void)snapshot();
  EXPECT_EQ(memory_used(), before);
}

TEST_F(LedgerTest, DoesNotGrowWithUse) {
  create();
  const auto container = ledger->container_opened(ledger->next_file(), self);
  ledger->unmapped(container, ledger->mapped(container, page_at(0)));
  const auto before = memory_used();
  for (int round = 0; round < 100'000; ++round)
    ledger->unmapped(container, ledger->mapped(container, page_at(0)));
  EXPECT_EQ(memory_used(), before);
  EXPECT_EQ(snapshot().containers.at(0).maps, 100'001U);
}

// --- daemons that come and go

TEST_F(LedgerTest, OfALivingDaemonIsNotTakenOver) {
  create();
  EXPECT_EQ(answer_of(SharedLedger::create(prefix, {}, directory)), fails(EBUSY));
}

TEST_F(LedgerTest, OfADeadDaemonCanBeReadAndReplaced) {
  ASSERT_EQ(in_child([&] {
              auto left = SharedLedger::create(prefix, {}, directory);
              if (!left)
                return 1;
              const auto container =
                  (*left)->container_opened((*left)->next_file(), Pid{::getpid()});
              (*left)->mapped(container, page_at(0x1000));
              (void)left->release(); // Killed: no destructor runs.
              return 0;
            }),
            0);
  const auto left = snapshot();
  EXPECT_FALSE(left.daemon.alive);
  ASSERT_EQ(left.containers.size(), 1U);
  EXPECT_EQ(left.containers[0].mappings, 1U);

  create();
  EXPECT_TRUE(snapshot().daemon.alive);
  EXPECT_TRUE(snapshot().containers.empty());
}

TEST_F(LedgerTest, IsClearedAwayOnlyIfItsDaemonIsDead) {
  create();
  SharedLedger::remove_left_behind(prefix, directory);
  EXPECT_TRUE(snapshot().daemon.alive);
  ledger.reset();
  ASSERT_EQ(in_child([&] {
              auto left = SharedLedger::create(prefix, {}, directory);
              return left && left->release() != nullptr ? 0 : 1;
            }),
            0);
  SharedLedger::remove_left_behind(prefix, directory);
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(ENOENT));
  SharedLedger::remove_left_behind(prefix, directory);
}

TEST_F(LedgerTest, IsNotTakenAwayByAForkedChild) {
  create();
  ASSERT_EQ(in_child([&] {
              ledger.reset();
              return 0;
            }),
            0);
  EXPECT_TRUE(snapshot().daemon.alive);
}

TEST_F(LedgerTest, StaysReadableAfterItsDaemonWent) {
  create();
  ledger->container_opened(ledger->next_file(), self);
  const auto reader = LedgerReader::open(prefix, directory);
  ASSERT_TRUE(reader);
  ledger.reset();
  EXPECT_EQ(reader->snapshot().containers.size(), 1U);
}

TEST_F(LedgerTest, TellsAZombieAndAnotherProcessFromItsDaemon) {
  const pid_t child = ::fork();
  if (child == 0)
    ::_exit(0);
  siginfo_t ended{};
  ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT);
  const auto process = identify(Pid{child});
  EXPECT_NE(process.started, 0U);
  EXPECT_FALSE(still_runs(Pid{child}, process.started));
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(identify(Pid{child}).started, 0U);
  EXPECT_FALSE(still_runs(self, identify(self).started + 1));
  EXPECT_TRUE(still_runs(self, identify(self).started));
}

TEST(ProcessIdentity, IsUnknownIfItCannotBeRead) {
  // Opening a directory succeeds and reading it fails, as with a process that goes in between.
  const test::FakeSysfs files;
  std::filesystem::create_directories(files.root() / "1/stat");
  EXPECT_EQ(identify(Pid{1}, files.root()).started, 0U);
  EXPECT_FALSE(still_runs(Pid{1}, 1, files.root()));
}

TEST_F(LedgerTest, RefusesWhatIsNoPrefix) {
  for (const std::string bad : {"", "/dev/vfio", "a!b"})
    EXPECT_EQ(answer_of(SharedLedger::create(bad, {}, directory)), fails(EINVAL)) << bad;
  EXPECT_EQ(
      answer_of(SharedLedger::create(std::string(layout::longest_prefix + 1, 'x'), {}, directory)),
      fails(EINVAL));
}

// --- regions that are not what they should be

class StrangeRegionTest : public LedgerTest {
protected:
  /// Changes the region's file, as a stranger might.
  int open_region(int flags = 0) { return ::open(path().c_str(), O_RDWR | flags, 0600); }

  template <typename Change>
  void change_header(Change change) {
    const int file = open_region();
    ASSERT_GE(file, 0);
    void *memory =
        ::mmap(nullptr, sizeof(layout::Header), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ASSERT_NE(memory, MAP_FAILED);
    change(*static_cast<layout::Header *>(memory));
    ::munmap(memory, sizeof(layout::Header));
    ::close(file);
  }
};

TEST_F(StrangeRegionTest, OfAnotherVersionIsRefused) {
  create();
  change_header([](layout::Header &header) { header.version = layout::version + 1; });
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EPROTO));
}

TEST_F(StrangeRegionTest, OfADaemonThatIsStartingAsksForPatience) {
  create();
  change_header([](layout::Header &header) { header.magic = 0; });
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EAGAIN));
}

TEST_F(StrangeRegionTest, ThatPointsOutsideItselfIsRefused) {
  create();
  change_header([](layout::Header &header) { header.devices.offset = 1ULL << 60; });
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EPROTO));
}

TEST_F(StrangeRegionTest, ThatClaimsMoreThanItsCapacityIsReadToItsEnd) {
  create({.containers = 2, .groups = 2, .devices = 2, .mappings = 2});
  change_header([](layout::Header &header) { header.groups.used = UINT32_MAX; });
  EXPECT_TRUE(snapshot().containers.empty());
}

TEST_F(StrangeRegionTest, ThatIsCutShortIsRefused) {
  ::close(open_region(O_CREAT));
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EAGAIN));
  ASSERT_EQ(::truncate(path().c_str(), 8), 0);
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EPROTO));
  ASSERT_EQ(::truncate(path().c_str(), sizeof(layout::Header)), 0);
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EAGAIN));
  create();
  EXPECT_TRUE(snapshot().daemon.alive);
}

TEST_F(StrangeRegionTest, MadeByAStrangerIsRefusedAndReplaced) {
  create();
  if (::geteuid() != 0)
    GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown(path().c_str(), 12345, 12345), 0);
  EXPECT_EQ(answer_of(LedgerReader::open(prefix, directory)), fails(EPERM));
  auto again = SharedLedger::create(prefix, {}, directory);
  ASSERT_TRUE(again);
  EXPECT_TRUE(LedgerReader::open(prefix, directory));
}

TEST_F(StrangeRegionTest, InADirectoryThatOthersWriteToIsNotMade) {
  ASSERT_EQ(::chmod(directory.c_str(), 01777), 0);
  EXPECT_EQ(answer_of(SharedLedger::create(prefix, {}, directory)), fails(EPERM));
  ASSERT_EQ(::chmod(directory.c_str(), 0755), 0);
  EXPECT_TRUE(SharedLedger::create(prefix, {}, directory));
  if (::geteuid() != 0)
    GTEST_SKIP() << "only root can give directories away";
  ASSERT_EQ(::chown(directory.c_str(), 12345, 12345), 0);
  EXPECT_EQ(answer_of(SharedLedger::create(prefix, {}, directory)), fails(EPERM));
}

TEST_F(StrangeRegionTest, ThatIsNoFileIsRefused) {
  ASSERT_EQ(::mkdir(path().c_str(), 0755), 0);
  EXPECT_FALSE(LedgerReader::open(prefix, directory));
  EXPECT_FALSE(SharedLedger::create(prefix, {}, directory));
}

TEST_F(StrangeRegionTest, WithAHalfWrittenRecordShowsTheOthers) {
  create();
  ledger->container_opened(ledger->next_file(), self);
  const auto victim = ledger->container_opened(ledger->next_file(), self);
  std::uint64_t offset = 0;
  change_header([&](layout::Header &header) {
    offset = header.containers.offset + std::uint64_t{victim - 1} * header.containers.record_size;
  });
  const int file = open_region();
  std::uint64_t commit = 0;
  ASSERT_EQ(::pread(file, &commit, sizeof commit, static_cast<off_t>(offset)), 8);
  commit |= 1; // As a daemon leaves it that was killed while writing.
  ASSERT_EQ(::pwrite(file, &commit, sizeof commit, static_cast<off_t>(offset)), 8);
  ::close(file);
  const auto seen = snapshot();
  EXPECT_EQ(seen.containers.size(), 1U);
  EXPECT_EQ(seen.torn, 1U);
}

// --- names

TEST(LedgerNameTest, LeadsFromPrefixToFileAndBack) {
  EXPECT_EQ(layout::file_name("vfio"), "vfio.ledger");
  EXPECT_EQ(layout::file_name("a/b"), "a!b.ledger");
  EXPECT_EQ(layout::prefix_of("a!b.ledger"), "a/b");
  EXPECT_EQ(layout::prefix_of("vfio.lock"), "");
}

TEST_F(LedgerTest, MakesItsDirectoryWhateverTheUmask) {
  const mode_t before = ::umask(0077);
  auto made = SharedLedger::create(prefix, {}, directory / "vfio-shim");
  ::umask(before);
  ASSERT_TRUE(made) << made.error().describe();
  struct stat status {};
  ASSERT_EQ(::stat((directory / "vfio-shim").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755U);
}

TEST_F(LedgerTest, IsFoundByItsPrefix) {
  create();
  const auto found = LedgerReader::prefixes(directory);
  EXPECT_EQ(std::ranges::count(found, prefix), 1);
  EXPECT_TRUE(LedgerReader::prefixes("/nonexistent").empty());
}

// --- everything at once

/// A worker with a container of its own, whose mappings follow a rule that a reader can check.
class Worker {
public:
  static constexpr std::uint64_t salt = 0x5a5a5a5a5a5a5000;

  static MappingEntry entry(std::uint64_t iova) {
    return {.iova = Iova{iova},
            .vaddr = ClientAddr{iova ^ salt},
            .size = page,
            .access = {.read = true, .write = (iova & page.value) != 0}};
  }
  static bool follows_rule(const Snapshot::Mapping &mapping) {
    return mapping.vaddr == ClientAddr{mapping.iova.value ^ salt} && mapping.size == page &&
           mapping.access.read && mapping.access.write == ((mapping.iova.value & page.value) != 0);
  }

  Worker(SharedLedger &ledger, std::uint32_t number) : ledger_(ledger), number_(number) {}

  void run(const std::atomic<bool> &stop) {
    for (std::uint64_t round = 0; !stop; ++round) {
      live_through(round);
      if (stop)
        return;
    }
  }

private:
  /// Opens a container and a group, maps and unmaps, closes.
  void live_through(std::uint64_t round) {
    const auto container = ledger_.container_opened(ledger_.next_file(), Pid{::getpid()});
    const auto group = ledger_.group_opened(ledger_.next_file(), GroupId{number_}, Pid{::getpid()});
    ledger_.group_moved(group, container);
    ledger_.iommu_set(container, VFIO_TYPE1v2_IOMMU);
    const auto device = ledger_.device_opened(group, fmt::format("device-{}", number_));
    std::vector<Ledger::Record> records;
    for (std::uint64_t index = 0; index < 200 + round % 100; ++index) {
      records.push_back(ledger_.mapped(container, entry((round * 1000 + index) * page.value)));
      if (index % 3 == 2) {
        ledger_.unmapped(container, records[index / 2]);
        records[index / 2] =
            ledger_.mapped(container, entry((round * 1000 + index / 2) * page.value));
      }
    }
    for (const auto record : records)
      ledger_.unmapped(container, record);
    ledger_.device_gone(device);
    ledger_.group_moved(group, 0);
    ledger_.group_gone(group);
    ledger_.container_gone(container);
  }

  SharedLedger &ledger_;
  std::uint32_t number_;
};

/// Asks that whatever is seen be whole.
void expect_sound(const Snapshot &seen, const std::string &command, std::uint32_t workers) {
  std::set<std::uint64_t> ids;
  EXPECT_LE(seen.containers.size(), workers);
  for (const auto &container : seen.containers) {
    EXPECT_TRUE(ids.insert(container.id).second);
    EXPECT_EQ(container.client.pid.value, ::getpid());
    EXPECT_EQ(container.client.command, command);
    EXPECT_EQ(container.mapped_bytes.value, container.mappings * page.value);
    EXPECT_EQ(container.mappings, container.maps - container.unmaps);
    for (const auto &mapping : container.mapping_list)
      EXPECT_TRUE(Worker::follows_rule(mapping));
    for (const auto &group : container.groups)
      for (const auto &device : group.devices)
        EXPECT_EQ(device, fmt::format("device-{}", group.number.value));
  }
}

TEST_F(LedgerTest, ShowsOnlyWholeRecordsWhileWorkersWrite) {
  constexpr std::uint32_t worker_count = 4;
  create();
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (std::uint32_t number = 0; number < worker_count; ++number)
    threads.emplace_back([&, number] { Worker(*ledger, number).run(stop); });

  const auto reader = LedgerReader::open(prefix, directory);
  ASSERT_TRUE(reader);
  const auto command = identify(self).command;
  std::uint64_t mappings_seen = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  while (std::chrono::steady_clock::now() < end) {
    const auto seen = reader->snapshot(LedgerReader::Mappings::listed);
    expect_sound(seen, command, worker_count);
    for (const auto &container : seen.containers)
      mappings_seen += container.mapping_list.size();
  }
  stop = true;
  for (auto &thread : threads)
    thread.join();

  EXPECT_GT(mappings_seen, 0U);
  const auto last = reader->snapshot(LedgerReader::Mappings::listed);
  EXPECT_TRUE(last.containers.empty());
  EXPECT_TRUE(last.groups_without_container.empty());
  EXPECT_EQ(last.refused, 0U);
  EXPECT_EQ(last.torn, 0U);
}

TEST_F(LedgerTest, GivesNoPlaceToTwoWorkers) {
  constexpr std::uint64_t per_worker = 20'000;
  constexpr std::uint64_t worker_count = 4;
  create();
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < worker_count; ++number)
    threads.emplace_back([&, number] {
      const auto container = ledger->container_opened(ledger->next_file(), self);
      // Take and give back between, so that the chain of free places is fought over.
      for (std::uint64_t index = 0; index < per_worker; ++index) {
        const auto given_back =
            ledger->mapped(container, Worker::entry((number * per_worker + index) * page.value));
        ledger->mapped(container, Worker::entry((number * per_worker + index) * page.value));
        ledger->unmapped(container, given_back);
      }
    });
  for (auto &thread : threads)
    thread.join();

  const auto seen = snapshot();
  std::set<std::uint64_t> iovas;
  for (const auto &container : seen.containers) {
    EXPECT_EQ(container.mapping_list.size(), per_worker);
    for (const auto &mapping : container.mapping_list) {
      EXPECT_TRUE(Worker::follows_rule(mapping));
      iovas.insert(mapping.iova.value);
    }
  }
  EXPECT_EQ(iovas.size(), per_worker * worker_count);
}

} // namespace
} // namespace vfio_shim::observe
