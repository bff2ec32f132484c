// SPDX-License-Identifier: MIT
#include "cli/replay/cast.hpp"
#include "cli/replay/player.hpp"
#include "cli/replay/recorded_memory.hpp"
#include "cli/replay/turns.hpp"

#include "vfio_shim/call_witness.hpp"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "support/fake_sysfs.hpp"
#include "support/recorded.hpp"

namespace vfio_shim::cli {
namespace {

using observe::trace::Memory;
using test::Recorded;

constexpr Pid recorded_process{77};

Memory memory_of(MemoryKind kind, std::uint64_t size, std::uint8_t flags = 0) {
  return {.size = size,
          .page_size = 4096,
          .kind = static_cast<std::uint8_t>(kind),
          .flags = flags,
          .reserved = 0};
}

Recorded::Record &map_of(Recorded &recorded, std::uint64_t vaddr, const Memory &memory) {
  auto &map = recorded.map(1, 0, memory.size, vaddr);
  map.memory[0] = memory;
  map.stretches = 1;
  return map;
}

bool writable(std::uint64_t address) {
  int pipe[2]; // A system call that cannot write there says so, and does nothing worse.
  EXPECT_EQ(::pipe(pipe), 0);
  EXPECT_EQ(::write(pipe[1], "x", 1), 1);
  const bool could = ::read(pipe[0], reinterpret_cast<void *>(address), 1) == 1;
  ::close(pipe[0]);
  ::close(pipe[1]);
  return could;
}

TEST(RecordedMemory, OverlapsWhereItOverlappedAndKeepsAlignment) {
  Recorded recorded;
  map_of(recorded, 0x7f0000201000, memory_of(MemoryKind::anonymous, 0x3000));
  map_of(recorded, 0x7f0000202000, memory_of(MemoryKind::anonymous, 0x1000));
  auto memory = RecordedMemory::reserve(recorded.recording);
  ASSERT_TRUE(memory);
  const std::uint64_t here = memory->address_of(recorded_process, 0x7f0000201000);
  EXPECT_EQ(here % (2U << 20U), 0x1000U);
  EXPECT_EQ(memory->address_of(recorded_process, 0x7f0000202010), here + 0x1010);
  EXPECT_FALSE(writable(here));
  ASSERT_TRUE(memory->provide(recorded.recording.records[0]));
  EXPECT_TRUE(writable(here + 0x2fff));
}

TEST(RecordedMemory, KeepsWhatNobodyKnowsAndOtherProcesses) {
  Recorded recorded;
  map_of(recorded, 0x7f0000201000, memory_of(MemoryKind::anonymous, 0x1000));
  const auto memory = RecordedMemory::reserve(recorded.recording);
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->address_of(recorded_process, 0xdead), 0xdeadU);
  EXPECT_EQ(memory->address_of(Pid{78}, 0x7f0000201000), 0x7f0000201000U);
}

TEST(RecordedMemory, WhatCouldNotBeWrittenCannotBeNow) {
  Recorded recorded;
  Recorded::fails(map_of(recorded, 0x1000000, memory_of(MemoryKind::anonymous, 0x1000)), EFAULT);
  map_of(recorded, 0x1000000, memory_of(MemoryKind::anonymous, 0x1000));
  auto memory = RecordedMemory::reserve(recorded.recording);
  ASSERT_TRUE(memory);
  const std::uint64_t here = memory->address_of(recorded_process, 0x1000000);
  ASSERT_TRUE(memory->provide(recorded.recording.records[0]));
  EXPECT_FALSE(writable(here));
  ASSERT_TRUE(memory->provide(recorded.recording.records[1]));
  EXPECT_TRUE(writable(here));
}

TEST(RecordedMemory, SharedFilesAreSharedFiles) {
  Recorded recorded;
  map_of(recorded, 0x1000000, memory_of(MemoryKind::shmem, 0x2000, Memory::shared));
  auto memory = RecordedMemory::reserve(recorded.recording);
  ASSERT_TRUE(memory);
  ASSERT_TRUE(memory->provide(recorded.recording.records[0]));
  const std::uint64_t here = memory->address_of(recorded_process, 0x1000000);
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line) && !line.starts_with(fmt::format("{:x}-", here)))
    continue;
  EXPECT_NE(line.find("rw-s"), std::string::npos) << line;
  EXPECT_NE(line.find("memfd:"), std::string::npos) << line;
}

TEST(Turns, ACallWaitsForThoseThatHadEnded) {
  Recorded recorded;
  recorded.open_container(1);
  recorded.open_container(2);
  Turns turns(recorded.recording.records);
  std::atomic<bool> second_began = false;
  turns.begin(0);
  std::jthread second([&] {
    turns.begin(1);
    second_began = true;
    turns.end(1);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(second_began);
  turns.end(0);
  second.join();
  EXPECT_TRUE(second_began);
}

TEST(Turns, CallsThatOverlappedMayOverlap) {
  Recorded recorded;
  recorded.open_container(1);
  recorded.open_container(2);
  recorded.recording.records[0].total = 5000;
  Turns turns(recorded.recording.records);
  turns.begin(0);
  turns.begin(1); // Does not wait.
  turns.end(1);
  turns.end(0);
}

TEST(Player, OpensTheNodesOfTheCast) {
  const auto nodes =
      std::filesystem::temp_directory_path() / fmt::format("vfio-shim-nodes.{}", ::getpid());
  std::filesystem::create_directory(nodes);
  std::ofstream{nodes / "vfio"};
  std::ofstream{nodes / "9"};
  Recorded recorded;
  recorded.open_container(1);
  recorded.open_group(2, 5);
  recorded.open_group(3, 6);
  recorded.call(1, VFIO_GET_API_VERSION);
  auto player =
      Player::create(recorded.recording, {.groups = {{5, 9}}, .devices = {}}, nodes, false);
  ASSERT_TRUE(player);
  const auto replies = (*player)->play();
  std::filesystem::remove_all(nodes);
  ASSERT_TRUE(replies);
  EXPECT_EQ((*replies)[0].error, 0);
  EXPECT_EQ((*replies)[1].error, 0);
  EXPECT_EQ((*replies)[2].error, ENOENT);
  EXPECT_EQ((*replies)[3].error, ENOTTY);
}

TEST(Cast, SaysWhichGroupIsMissing) {
  const test::FakeSysfs sysfs;
  Recorded recorded;
  recorded.open_group(1, 5);
  const auto cast = find_cast(recorded.recording, "", sysfs.roots());
  ASSERT_FALSE(cast);
  EXPECT_NE(cast.error().where.find("IOMMU group 5"), std::string::npos) << cast.error().where;
  EXPECT_FALSE(find_cast(recorded.recording, "0000:00:02.0", sysfs.roots()));
}

} // namespace
} // namespace vfio_shim::cli
