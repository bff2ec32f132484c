// SPDX-License-Identifier: MIT
#include "observe/observed_call.hpp"
#include "observe/observer.hpp"
#include "observe/recorder.hpp"
#include "observe/trace_reader.hpp"

#include "vfio_shim/call_witness.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vfio_shim::observe {
namespace {

using std::filesystem::path;

trace::Record record_number(std::uint64_t sequence) {
  trace::Record record{};
  record.kind = trace::Kind::call;
  record.sequence = sequence;
  record.command = VFIO_GET_API_VERSION;
  return record;
}

class RecordingTest : public testing::Test {
protected:
  ~RecordingTest() override { std::filesystem::remove(file); }

  std::unique_ptr<Recorder> record() {
    auto recorder = Recorder::create(file, "vfio", "iommufd");
    EXPECT_TRUE(recorder) << recorder.error().describe();
    return recorder ? std::move(*recorder) : nullptr;
  }

  /// A whole recording of @p count calls.
  void record_calls(std::uint64_t count) {
    const auto recorder = record();
    for (std::uint64_t sequence = 1; sequence <= count; ++sequence)
      recorder->add(record_number(sequence));
  }

  Recording read() {
    auto recording = read_recording(file);
    EXPECT_TRUE(recording) << recording.error().where;
    return recording ? std::move(*recording) : Recording{};
  }

  /// The errno of reading the recording, whose line names the file and says @p what.
  int failure(const std::string &what) {
    const auto recording = read_recording(file);
    if (recording)
      return 0;
    EXPECT_EQ(recording.error().where.find(file.string()), 0U) << recording.error().where;
    EXPECT_NE(recording.error().where.find(what), std::string::npos) << recording.error().where;
    return recording.error().code;
  }

  void overwrite(std::size_t offset, std::uint32_t value) {
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(reinterpret_cast<const char *>(&value), sizeof(value));
  }

  /// Makes the recording one of a daemon that is gone: pid 0 never runs.
  void forget_daemon() { overwrite(offsetof(trace::Header, daemon_pid), 0); }

  const path file = std::filesystem::temp_directory_path() /
                    fmt::format("vfio-shim-recording-test.{}", ::getpid());
};

TEST_F(RecordingTest, ComesBackAsItWas) {
  trace::Record written = record_number(1);
  written.command = VFIO_IOMMU_MAP_DMA;
  written.argument = 0x7ffd12345678;
  written.result = -1;
  written.error = EEXIST;
  written.file = 3;
  written.memory[0] = {.size = 4096, .page_size = 4096, .kind = 2, .flags = 3, .reserved = 0};
  written.stretches = 1;
  written.before[63] = std::byte{0xab};
  record()->add(written);

  const Recording recording = read();
  EXPECT_EQ(recording.prefix, "vfio");
  EXPECT_EQ(recording.backend, "iommufd");
  EXPECT_EQ(recording.end, Recording::End::whole);
  EXPECT_EQ(recording.lost, 0U);
  EXPECT_EQ(recording.complaint(file), "");
  ASSERT_EQ(recording.records.size(), 1U);
  EXPECT_EQ(std::memcmp(&recording.records[0], &written, sizeof(written)), 0);
}

TEST_F(RecordingTest, IsReadableByItsOwnerOnly) {
  record_calls(0);
  EXPECT_EQ(std::filesystem::status(file).permissions(), std::filesystem::perms{0600});
}

TEST_F(RecordingTest, OrdersCallsAsTheyBegan) {
  {
    const auto recorder = record();
    for (const std::uint64_t sequence : {2, 3, 1})
      recorder->add(record_number(sequence));
  }
  std::vector<std::uint64_t> order;
  for (const trace::Record &found : read().records)
    order.push_back(found.sequence);
  EXPECT_EQ(order, (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST_F(RecordingTest, TakesCallsOfManyThreads) {
  constexpr std::uint64_t threads = 4;
  constexpr std::uint64_t calls = 2000; // Together fewer than the queue holds: none is lost.
  {
    const auto recorder = record();
    std::vector<std::jthread> callers;
    for (std::uint64_t thread = 0; thread < threads; ++thread)
      callers.emplace_back([&recorder, thread] {
        for (std::uint64_t call = 1; call <= calls; ++call)
          recorder->add(record_number(thread * calls + call));
      });
  }
  const Recording recording = read();
  ASSERT_EQ(recording.records.size(), threads * calls);
  for (std::size_t index = 0; index < recording.records.size(); ++index)
    ASSERT_EQ(recording.records[index].sequence, index + 1);
  EXPECT_EQ(recording.lost, 0U);
}

TEST_F(RecordingTest, SaysThatItsDaemonStillWrites) {
  const auto recorder = record();
  EXPECT_EQ(read().end, Recording::End::running);
}

TEST_F(RecordingTest, LosesOnlyItsTailInACrash) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto recorder = record();
    for (std::uint64_t sequence = 1; sequence <= 100; ++sequence)
      recorder->add(record_number(sequence));
    for (int tries = 0; tries < 1000 && std::filesystem::file_size(file) <
                                            sizeof(trace::Header) + 100 * sizeof(trace::Record);
         ++tries)
      ::usleep(10'000);
    recorder->add(record_number(101)); // Still in the queue, or not.
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  const Recording recording = read();
  EXPECT_EQ(recording.end, Recording::End::missing);
  EXPECT_GE(recording.records.size(), 100U);
  EXPECT_NE(recording.complaint(file).find("its tail is missing"), std::string::npos);
}

TEST_F(RecordingTest, EndsWhereTheFileCannotGrow) {
  constexpr std::size_t room = sizeof(trace::Header) + 10 * sizeof(trace::Record) + 100;
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{.rlim_cur = room, .rlim_max = room};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    record_calls(50); // Neither dies nor waits.
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const Recording recording = read();
  EXPECT_EQ(recording.end, Recording::End::cut);
  EXPECT_EQ(recording.records.size(), 10U);
}

TEST_F(RecordingTest, CountsWhatFoundNoRoomInTheQueue) {
  constexpr std::uint64_t far_too_many = 200'000;
  record_calls(far_too_many);
  const Recording recording = read();
  EXPECT_EQ(recording.end, Recording::End::whole);
  EXPECT_EQ(recording.records.size() + recording.lost, far_too_many);
}

TEST_F(RecordingTest, SaysWhatIsMissingOfACutFile) {
  record_calls(5);
  forget_daemon();
  std::filesystem::resize_file(file, sizeof(trace::Header) + 4 * sizeof(trace::Record) + 7);
  EXPECT_EQ(read().end, Recording::End::cut);
  EXPECT_EQ(read().records.size(), 4U);
  std::filesystem::resize_file(file, sizeof(trace::Header) + 3 * sizeof(trace::Record));
  EXPECT_EQ(read().end, Recording::End::missing);
  EXPECT_EQ(read().records.size(), 3U);
  std::filesystem::resize_file(file, sizeof(trace::Header) - 1);
  EXPECT_EQ(failure("cut off within its header"), ENODATA);
}

TEST_F(RecordingTest, CountsGapsInARecordingWithoutEnd) {
  {
    const auto recorder = record();
    for (const std::uint64_t sequence : {1, 2, 5})
      recorder->add(record_number(sequence));
  }
  forget_daemon();
  std::filesystem::resize_file(file, sizeof(trace::Header) + 3 * sizeof(trace::Record));
  EXPECT_EQ(read().lost, 2U);
}

TEST_F(RecordingTest, RefusesForeignFiles) {
  std::ofstream(file) << "#!/bin/sh\necho no recording\n";
  EXPECT_EQ(failure("not a recording"), EPROTO);
  std::filesystem::resize_file(file, 0);
  EXPECT_EQ(failure("not a recording"), EPROTO);
  std::filesystem::remove(file);
  EXPECT_EQ(failure("ENOENT"), ENOENT);
  std::filesystem::create_directory(file);
  EXPECT_EQ(failure("EISDIR"), EISDIR);
}

TEST_F(RecordingTest, RefusesALaterFormat) {
  record_calls(1);
  overwrite(offsetof(trace::Header, version), trace::version + 1);
  EXPECT_EQ(failure("a newer vfio-shim"), EPROTO);
}

TEST_F(RecordingTest, RefusesDamagedFiles) {
  record_calls(2);
  overwrite(sizeof(trace::Header) + sizeof(trace::Record) + offsetof(trace::Record, kind), 0xffff);
  EXPECT_EQ(failure("record 2 is damaged"), EPROTO);
  overwrite(offsetof(trace::Header, record_size), 1);
  EXPECT_EQ(failure("header is damaged"), EPROTO);
}

/// A call that is observed into a recording.
class ObservedCallTest : public RecordingTest {
protected:
  /// Lets @p steps happen to a call with @p command and @p argument. @return Its record.
  template <typename Steps>
  trace::Record observe(std::uint32_t command, std::uint64_t argument, Steps steps) {
    {
      const auto recorder = record();
      Observer observer(*statistics, recorder.get());
      const auto opened = observer.opening(FileNumber{1}, Pid{::getpid()}, GroupId{7});
      ObservedCall call(observer, trace::Kind::call, opened, Tid{::getpid()}, command, argument);
      const WitnessScope scope(call);
      call.begins([] { return Pid{::getpid()}; });
      steps();
      call.answering();
      call.answered(0, 0);
    }
    const Recording recording = read();
    return recording.records.empty() ? trace::Record{} : recording.records[0];
  }

  static CallWitness &witness() { return CallWitness::current(); }

  const std::unique_ptr<Statistics> statistics = std::make_unique<Statistics>();
};

TEST_F(ObservedCallTest, KeepsTheArgumentBeforeAndAfter) {
  const std::vector<std::byte> argument(24, std::byte{1});
  const std::vector<std::byte> answer(8, std::byte{2});
  const auto found = observe(VFIO_IOMMU_UNMAP_DMA, 0x1000, [&] {
    witness().was_read(ClientAddr{0x1000}, argument);
    witness().was_read(ClientAddr{0x5000}, argument); // Something else of the client's.
    witness().was_written(ClientAddr{0x1010}, answer);
    witness().was_written(ClientAddr{0x103c}, answer); // Half of it is beyond what is kept.
    witness().was_written(ClientAddr{0xff8}, answer);
  });
  EXPECT_EQ(found.was_read, 24);
  EXPECT_EQ(found.was_written, trace::most_bytes);
  EXPECT_EQ(std::ranges::count(found.before, std::byte{1}), 24);
  EXPECT_EQ(std::ranges::count(found.after, std::byte{1}), 16);
  EXPECT_EQ(std::ranges::count(found.after, std::byte{2}), 12);
}

TEST_F(ObservedCallTest, KeepsNothingBehindAName) {
  std::string name = "0000:00:02.0";
  name += std::string(1, '\0') + "secret";
  const auto found = observe(VFIO_GROUP_GET_DEVICE_FD, 0x1000, [&] {
    witness().was_read(ClientAddr{0x1000}, std::as_bytes(std::span(name)));
  });
  EXPECT_EQ(found.was_read, 13);
  EXPECT_EQ(found.before[13], std::byte{0});
  EXPECT_EQ(found.after[13], std::byte{0});
}

TEST_F(ObservedCallTest, JoinsMemoryOfOneKind) {
  const MemoryNote page{.size = Bytes{4096},
                        .page_size = Bytes{4096},
                        .kind = MemoryKind::anonymous,
                        .shared = false,
                        .by_file = false};
  MemoryNote file = page;
  file.kind = MemoryKind::shmem;
  const auto found = observe(VFIO_IOMMU_MAP_DMA, 0x1000, [&] {
    witness().found_memory(page);
    witness().found_memory(page);
    for (int times = 0; times < 3; ++times) {
      witness().found_memory(file);
      witness().found_memory(page);
    }
  });
  EXPECT_EQ(found.stretches, 7);
  EXPECT_EQ(found.memory[0].size, 8192U);
  EXPECT_EQ(found.memory[3].kind, static_cast<std::uint8_t>(MemoryKind::shmem));
}

TEST_F(ObservedCallTest, TellsWhereTheTimeGoes) {
  const auto pass_time = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  const auto found = observe(VFIO_IOMMU_MAP_DMA, 0, [&] {
    witness().borrow_begins();
    pass_time();
    witness().kernel_entered(1);
    pass_time();
    witness().kernel_left(1, 0);
    witness().borrow_ended();
    pass_time();
  });
  constexpr std::uint64_t least = 2'000'000;
  EXPECT_GE(found.borrow, least);
  EXPECT_GE(found.kernel, least);
  EXPECT_GE(found.total, found.in + found.borrow + found.kernel + found.out + least);
}

TEST_F(ObservedCallTest, SaysWhoCalled) {
  const auto found = observe(VFIO_GET_API_VERSION, 0, [] {});
  EXPECT_EQ(found.pid, ::getpid());
  EXPECT_EQ(std::string(found.client.data(), 10), "unit_tests");
  EXPECT_EQ(found.group, 7U);
  EXPECT_EQ(found.file, 1U);
}

TEST_F(ObservedCallTest, NobodyWatchesAfterwards) {
  observe(VFIO_GET_API_VERSION, 0, [] {});
  witness().borrow_begins(); // Goes to nobody, rather than to a call that is gone.
}

TEST_F(ObservedCallTest, IsCounted) {
  observe(VFIO_GET_API_VERSION, 0, [] {});
  const auto kinds = statistics->read();
  const auto version = std::ranges::find(kinds, "VFIO_GET_API_VERSION", &Statistics::Kind::name);
  ASSERT_NE(version, kinds.end());
  EXPECT_EQ(version->calls, 1U);
  EXPECT_EQ(version->failed(), 0U);
}

} // namespace
} // namespace vfio_shim::observe
