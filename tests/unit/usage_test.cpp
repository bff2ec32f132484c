// SPDX-License-Identifier: MIT
#include "cli/usage_report.hpp"
#include "observe/usage_book.hpp"
#include "observe/usage_keeper.hpp"

#include "vfio_shim/call_witness.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <unistd.h>

namespace vfio_shim::observe {
namespace {

trace::Record call(std::uint32_t command, std::uint64_t argument = 0) {
  trace::Record record{};
  record.kind = trace::Kind::call;
  record.command = command;
  record.argument = argument;
  return record;
}

template <typename Struct>
trace::Record call_with(std::uint32_t command, const Struct &argument) {
  trace::Record record = call(command, 0x1000);
  std::memcpy(record.before.data(), &argument, sizeof(argument));
  record.was_read = sizeof(argument);
  return record;
}

std::vector<std::string> names_of(const trace::Record &record) {
  std::vector<std::string> names;
  const auto used = features_of(record);
  for (std::size_t index = 0; index < features; ++index)
    if (used[index])
      names.emplace_back(feature_name(static_cast<Feature>(index)));
  return names;
}

using Names = std::vector<std::string>;

ProgramUse used(Feature feature, std::int64_t time) {
  ProgramUse use;
  use[feature] = {.calls = 1, .failed = 0, .first = time, .last = time};
  return use;
}

TEST(FeaturesTest, AreToldByTheCall) {
  trace::Record open{};
  open.kind = trace::Kind::open_container;
  EXPECT_EQ(names_of(open), Names{"container"});
  EXPECT_EQ(names_of(call(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU)), Names{"type1"});
  EXPECT_EQ(names_of(call(VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU)), Names{"no_iommu"});
  EXPECT_EQ(names_of(call(VFIO_IOMMU_DIRTY_PAGES)), Names{"dirty_tracking"});
  EXPECT_EQ(names_of(call(0x1234)), Names{"unknown_ioctl"});
  EXPECT_EQ(names_of(call(VFIO_GET_API_VERSION)), Names{});
}

TEST(FeaturesTest, AreToldByFlagsAndMemory) {
  vfio_iommu_type1_dma_map map{};
  map.flags = VFIO_DMA_MAP_FLAG_VADDR;
  EXPECT_EQ(names_of(call_with(VFIO_IOMMU_MAP_DMA, map)), Names{"update_vaddr"});

  trace::Record mapped = call(VFIO_IOMMU_MAP_DMA);
  mapped.stretches = 7; // More than there is room for.
  mapped.memory[0].kind = static_cast<std::uint8_t>(MemoryKind::anonymous);
  mapped.memory[1].kind = static_cast<std::uint8_t>(MemoryKind::device);
  mapped.memory[2].kind = static_cast<std::uint8_t>(MemoryKind::shmem);
  mapped.memory[2].flags = trace::Memory::shared;
  mapped.memory[3].kind = static_cast<std::uint8_t>(MemoryKind::hugetlb);
  EXPECT_EQ(names_of(mapped), (Names{"map_private", "map_shared", "map_hugetlb", "map_device"}));

  vfio_iommu_type1_dma_unmap unmap{};
  unmap.flags = VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
  EXPECT_EQ(names_of(call_with(VFIO_IOMMU_UNMAP_DMA, unmap)),
            (Names{"unmap_all", "dirty_tracking"}));
}

TEST(FeaturesTest, OfADeviceIncludeItsToken) {
  trace::Record device = call(VFIO_GROUP_GET_DEVICE_FD);
  device.was_read = trace::most_bytes;
  std::strcpy(reinterpret_cast<char *>(device.before.data()), "0000:00:02.0");
  EXPECT_EQ(names_of(device), Names{"device"});
  std::strcpy(reinterpret_cast<char *>(device.before.data()), "0000:00:02.0 vf_token=1");
  EXPECT_EQ(names_of(device), (Names{"device", "vf_token"}));
}

class UsageTest : public testing::Test {
protected:
  UsageTest() { std::filesystem::create_directory(state); }
  ~UsageTest() override { std::filesystem::remove_all(state); }

  UsageBook load() const {
    const auto book = UsageBook::load(file);
    EXPECT_TRUE(book) << book.error().describe();
    return book.value_or(UsageBook{});
  }

  /// What this program is known to have called, by the book.
  std::uint64_t calls(Feature feature) const {
    const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
    const UsageBook book = load();
    const auto found = book.programs().find(self);
    return found == book.programs().end() ? 0 : found->second[feature].calls;
  }

  const std::filesystem::path state =
      std::filesystem::temp_directory_path() / fmt::format("vfio-shim-usage-test.{}", ::getpid());
  const std::filesystem::path file = usage_file(state);
};

TEST_F(UsageTest, BookComesBackAsItWas) {
  UsageBook book;
  book.add("/usr/bin/one", used(Feature::device, 100));
  book.add("/usr/bin/one", used(Feature::device, 50));
  book.add("/usr/bin/two", used(Feature::dirty_tracking, 70));
  ASSERT_TRUE(book.save(file));
  const UsageBook back = load();
  ASSERT_EQ(back.programs().size(), 2U);
  const FeatureUse &device = back.programs().at("/usr/bin/one")[Feature::device];
  EXPECT_EQ(device.calls, 2U);
  EXPECT_EQ(device.first, 50);
  EXPECT_EQ(device.last, 100);
}

TEST_F(UsageTest, BookTakesAnyName) {
  UsageBook book;
  book.add("/tmp/\xff\n\"x\"", used(Feature::device, 1));
  book.add(std::string(5000, 'x'), used(Feature::device, 1));
  ASSERT_TRUE(book.save(file));
  const UsageBook back = load();
  for (const auto &[name, use] : back.programs())
    EXPECT_LE(name.size(), UsageBook::longest_name);
  EXPECT_TRUE(back.programs().contains("/tmp/??\"x\""));
}

TEST_F(UsageTest, BookHasABound) {
  constexpr int far_too_many = 2000;
  UsageBook book;
  book.add("/usr/bin/qemu", used(Feature::device, 1)); // Old, but a real one.
  for (int index = 0; index < far_too_many; ++index)
    book.add(fmt::format("/tmp/{}", index), used(Feature::container, 100 + index));
  EXPECT_EQ(book.programs().size(), UsageBook::most_programs);
  EXPECT_TRUE(book.programs().contains("/usr/bin/qemu"));
  EXPECT_TRUE(book.programs().contains(fmt::format("/tmp/{}", far_too_many - 1)));
  std::uint64_t calls = 0;
  for (const auto &[name, use] : book.programs())
    calls += use[Feature::container].calls;
  EXPECT_EQ(calls, static_cast<std::uint64_t>(far_too_many)); // None is forgotten.
}

TEST_F(UsageTest, KeeperWritesWhatWasUsed) {
  {
    UsageKeeper keeper(state);
    const auto program = keeper.program_of(Pid{::getpid()});
    program->add(call(VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    trace::Record failed = call(VFIO_IOMMU_DIRTY_PAGES);
    failed.error = EINVAL;
    program->add(failed);
  }
  EXPECT_EQ(calls(Feature::type1v2), 1U);
  const UsageBook book = load();
  ASSERT_EQ(book.programs().size(), 1U);
  const FeatureUse &dirty = book.programs().begin()->second[Feature::dirty_tracking];
  EXPECT_EQ(dirty.failed, 1U);
  EXPECT_GT(dirty.first, 0);
}

TEST_F(UsageTest, KeepersShareABook) {
  {
    UsageKeeper one(state);
    UsageKeeper other(state);
    one.program_of(Pid{::getpid()})->add(call(VFIO_IOMMU_DIRTY_PAGES));
    other.program_of(Pid{::getpid()})->add(call(VFIO_IOMMU_DIRTY_PAGES));
  }
  EXPECT_EQ(calls(Feature::dirty_tracking), 2U);
  UsageKeeper(state).program_of(Pid{::getpid()})->add(call(VFIO_IOMMU_DIRTY_PAGES));
  EXPECT_EQ(calls(Feature::dirty_tracking), 3U); // A restart forgets nothing.
}

TEST_F(UsageTest, KeeperPutsADamagedBookAside) {
  std::ofstream(file) << R"({"version": 1, "progr)";
  EXPECT_EQ(UsageBook::load(file).error().code, EBADMSG);
  UsageKeeper(state).program_of(Pid{::getpid()})->add(call(VFIO_IOMMU_DIRTY_PAGES));
  EXPECT_EQ(calls(Feature::dirty_tracking), 1U);
  EXPECT_TRUE(std::filesystem::exists(file.string() + ".damaged"));
}

TEST_F(UsageTest, KeeperLeavesANewerBookAlone) {
  std::ofstream(file) << R"({"version": 99})";
  UsageKeeper(state).program_of(Pid{::getpid()})->add(call(VFIO_IOMMU_DIRTY_PAGES));
  EXPECT_EQ(UsageBook::load(file).error().code, EPROTO);
  EXPECT_EQ(std::filesystem::file_size(file), 15U);
}

TEST_F(UsageTest, KeeperMakesItsDirectory) {
  const auto deeper = state / "a" / "b";
  UsageKeeper(deeper).program_of(Pid{::getpid()})->add(call(VFIO_IOMMU_DIRTY_PAGES));
  EXPECT_TRUE(std::filesystem::exists(usage_file(deeper)));
}

TEST(UsageReportTest, NamesWhatIsInTheWay) {
  UsageBook book;
  book.add("/usr/bin/qemu-system-x86_64", used(Feature::map_private, 1000));
  book.add("/opt/driver", used(Feature::map_device, 2000));
  const auto text =
      cli::usage_text(cli::programs_here(book), std::chrono::system_clock::from_time_t(2060));
  EXPECT_LT(text.find("/opt/driver"), text.find("qemu")); // The one used last comes first.
  EXPECT_NE(text.find("QEMU 9.0"), std::string::npos) << text;
  EXPECT_NE(text.find("Nothing else"), std::string::npos) << text;
  EXPECT_NE(text.find("dma-buf"), std::string::npos) << text;
  EXPECT_NE(text.find("1 min ago"), std::string::npos) << text;
  EXPECT_EQ(cli::obstacles("/opt/driver", used(Feature::map_private, 1)).size(), 1U);
}

TEST(UsageReportTest, NamesEveryFeatureOnce) {
  UsageBook book;
  ProgramUse everything;
  for (FeatureUse &use : everything.uses)
    use = {.calls = 7777, .failed = 0, .first = 1, .last = 1};
  book.add("/opt/driver", everything);
  const auto text = cli::usage_text(cli::programs_here(book), std::chrono::system_clock::now());
  std::size_t lines = 0;
  for (auto at = text.find("7777"); at != std::string::npos; at = text.find("7777", at + 1))
    ++lines;
  EXPECT_EQ(lines, features) << text;
  EXPECT_EQ(cli::usage_json(cli::programs_here(book), "")["programs"][0]["features"].size(),
            features);
}

/// What a host says of itself.
std::string said_by(const std::string &host, const std::string &program, std::int64_t time) {
  UsageBook book;
  book.add(program, used(Feature::device, time));
  return cli::usage_json(cli::programs_here(book), host).dump();
}

TEST(FleetUsageTest, AddsUpWhatHostsSay) {
  cli::ProgramsOnHosts programs;
  ASSERT_TRUE(cli::add_usage_json(programs, said_by("one", "/bin/a", 100), "1.json"));
  ASSERT_TRUE(cli::add_usage_json(programs, said_by("two", "/bin/a", 50), "2.json"));
  ASSERT_TRUE(cli::add_usage_json(programs, said_by("two", "/bin/b", 70), "3.json"));
  ASSERT_EQ(programs.size(), 2U);
  const FeatureUse &device = programs.at("/bin/a").use[Feature::device];
  EXPECT_EQ(device.calls, 2U);
  EXPECT_EQ(device.first, 50);
  EXPECT_EQ(device.last, 100);
  EXPECT_EQ(programs.at("/bin/a").hosts, (std::set<std::string>{"one", "two"}));
  const auto text = cli::usage_text(programs, std::chrono::system_clock::from_time_t(200));
  EXPECT_NE(text.find("on 2 hosts: one, two"), std::string::npos) << text;
}

TEST(FleetUsageTest, AddsToWhatIsAddedUpAlready) {
  cli::ProgramsOnHosts some;
  ASSERT_TRUE(cli::add_usage_json(some, said_by("one", "/bin/a", 100), ""));
  ASSERT_TRUE(cli::add_usage_json(some, said_by("two", "/bin/a", 100), ""));
  cli::ProgramsOnHosts all;
  ASSERT_TRUE(cli::add_usage_json(all, cli::usage_json(some, "").dump(), "some.json"));
  ASSERT_TRUE(cli::add_usage_json(all, said_by("three", "/bin/a", 100), ""));
  EXPECT_EQ(all.at("/bin/a").use[Feature::device].calls, 3U);
  EXPECT_EQ(all.at("/bin/a").hosts.size(), 3U);
}

TEST(FleetUsageTest, CallsAHostByItsFileIfNeedBe) {
  cli::ProgramsOnHosts programs;
  ASSERT_TRUE(cli::add_usage_json(programs, said_by("", "/bin/\xc3\xa9\x1b[m", 1), "old.json"));
  EXPECT_EQ(programs.begin()->first, "/bin/???[m");
  EXPECT_TRUE(programs.begin()->second.hosts.contains("old.json"));
}

TEST(FleetUsageTest, TakesNothingFromWhatIsNoUsage) {
  for (const std::string text :
       {"", "[]", "{}", R"({"programs": 1})", R"({"programs": [{"program": "a"}]})",
        R"({"programs": [{"program": "a", "features": {"device": {"calls": "many"}}}]})",
        R"({"programs": [{"program": "a", "features": {"device":
            {"calls": 1, "failed": 0, "first": "yesterday", "last": "now"}}}]})"}) {
    cli::ProgramsOnHosts programs;
    EXPECT_EQ(cli::add_usage_json(programs, text, "x").error().code, EBADMSG) << text;
    EXPECT_TRUE(programs.empty());
  }
}

} // namespace
} // namespace vfio_shim::observe
