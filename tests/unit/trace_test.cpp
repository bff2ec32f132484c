// SPDX-License-Identifier: MIT
#include "cli/human.hpp"
#include "cli/top_report.hpp"
#include "cli/trace_report.hpp"
#include "cli/trace_text.hpp"
#include "observe/ledger_layout.hpp"
#include "observe/mapped_bytes.hpp"
#include "observe/shared_ledger.hpp"
#include "observe/text.hpp"

#include "vfio_shim/call_witness.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/metrics.hpp"
#include "support/ledger_place.hpp"

namespace vfio_shim::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using observe::Recording;

trace::Record record_of(std::uint64_t sequence, std::uint32_t command) {
  trace::Record record{};
  record.kind = trace::Kind::call;
  record.sequence = sequence;
  record.command = command;
  record.file = 1;
  record.pid = 1234;
  record.thread = 1235;
  record.total = 9000;
  record.in = 1000;
  observe::copy_text("qemu\x1b[2J", record.client);
  return record;
}

trace::Record map_of(std::uint64_t sequence, std::uint64_t iova, std::uint64_t size) {
  trace::Record record = record_of(sequence, VFIO_IOMMU_MAP_DMA);
  const vfio_iommu_type1_dma_map map{.argsz = sizeof(map),
                                     .flags = VFIO_DMA_MAP_FLAG_READ,
                                     .vaddr = 0x7f0000000000,
                                     .iova = iova,
                                     .size = size};
  record.was_read = sizeof(map);
  std::memcpy(record.before.data(), &map, sizeof(map));
  record.after = record.before;
  record.stretches = 1;
  record.memory[0] = {.size = size,
                      .page_size = 4096,
                      .kind = static_cast<std::uint8_t>(MemoryKind::shmem),
                      .flags = trace::Memory::shared | trace::Memory::by_file,
                      .reserved = 0};
  return record;
}

trace::Record unmap_of(std::uint64_t sequence, std::uint64_t size) {
  trace::Record record = record_of(sequence, VFIO_IOMMU_UNMAP_DMA);
  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  unmap.size = size;
  record.was_read = record.was_written = sizeof(unmap);
  std::memcpy(record.before.data(), &unmap, sizeof(unmap));
  record.after = record.before;
  return record;
}

trace::Record joins(std::uint64_t sequence, std::uint32_t container) {
  trace::Record record = record_of(sequence, VFIO_GROUP_SET_CONTAINER);
  record.file = 2;
  record.group = 12;
  record.of_group = 1;
  record.other = container;
  return record;
}

Recording some_calls() {
  Recording recording{.began = std::chrono::system_clock::from_time_t(1'800'000'000),
                      .kernel = "7.2.13",
                      .prefix = "vfio",
                      .backend = "iommufd",
                      .records = {joins(1, 1), map_of(2, 0x100000, 0x2000), unmap_of(3, 0x2000)}};
  trace::Record failed = map_of(4, 0, 0x1000);
  failed.error = EEXIST;
  failed.result = -1;
  recording.records.push_back(failed);
  return recording;
}

std::string text_of(const Recording &recording) {
  std::ostringstream out;
  print_trace_text(recording, out);
  return out.str();
}

#define EXPECT_SAYS(text, what) EXPECT_NE((text).find(what), std::string::npos) << (text)

TEST(TraceTextTest, TellsWhatWasAskedAndAnswered) {
  const std::string text = text_of(some_calls());
  EXPECT_SAYS(text, "group 12");
  EXPECT_SAYS(text, "VFIO_GROUP_SET_CONTAINER(container 1) = 0");
  EXPECT_SAYS(text, "VFIO_IOMMU_MAP_DMA(iova 0x100000, 8 KiB at 0x7f0000000000, r) = 0");
  EXPECT_SAYS(text, "<8 KiB shmem shared by file>");
  EXPECT_SAYS(text, "= 8 KiB\n");
  EXPECT_SAYS(text, "= EEXIST");
}

TEST(TraceTextTest, HoldsNoControlCharacters) {
  EXPECT_EQ(text_of(some_calls()).find('\x1b'), std::string::npos);
}

TEST(TraceTextTest, DecodesEveryStruct) {
  trace::Record record = record_of(1, VFIO_IOMMU_DIRTY_PAGES);
  vfio_iommu_type1_dirty_bitmap bitmap{};
  bitmap.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  const vfio_iommu_type1_dirty_bitmap_get range{.iova = 0x4000, .size = 0x1000, .bitmap = {}};
  std::memcpy(record.before.data(), &bitmap, sizeof(bitmap));
  std::memcpy(record.before.data() + sizeof(bitmap), &range, sizeof(range));
  record.was_read = sizeof(bitmap) + sizeof(range);
  EXPECT_EQ(argument_text(record), "bitmap of iova 0x4000, 4 KiB");

  EXPECT_EQ(argument_text([] {
              auto check = record_of(1, VFIO_CHECK_EXTENSION);
              check.argument = VFIO_UPDATE_VADDR;
              return check;
            }()),
            "VFIO_UPDATE_VADDR");
  trace::Record status = record_of(1, VFIO_GROUP_GET_STATUS);
  EXPECT_EQ(result_text(status), "not viable");
  status.after[4] = std::byte{VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET};
  EXPECT_EQ(result_text(status), "viable in a container");
  trace::Record odd = record_of(1, 0x3b99);
  odd.argument = 0x10;
  EXPECT_EQ(call_name(odd), "ioctl 0x3b99");
  EXPECT_EQ(argument_text(odd), "0x10");
}

TEST(TraceJsonTest, IsWhatItIs) {
  const Recording recording = some_calls();
  const auto map = trace_json(recording, recording.records[1]);
  EXPECT_EQ(map["call"], "VFIO_IOMMU_MAP_DMA");
  EXPECT_EQ(map["before"].get<std::string>().substr(0, 8), "20000000");
  EXPECT_EQ(map["memory"][0]["kind"], "shmem");
  EXPECT_EQ(map["memory"][0]["by_file"], true);
  EXPECT_EQ(map["took"]["total"], 9000);
  EXPECT_EQ(map["errno"], 0);
  EXPECT_EQ(trace_json(recording, recording.records[3])["error"], "EEXIST");
  EXPECT_EQ(trace_json(recording, recording.records[0])["container"], 1);
}

TEST(TraceChromeTest, IsJsonWithASlicePerCall) {
  std::ostringstream out;
  print_trace_chrome(some_calls(), out);
  const json root = json::parse(out.str());
  std::vector<std::string> phases;
  for (const json &event : root["traceEvents"])
    phases.push_back(event["ph"]);
  EXPECT_EQ(std::ranges::count(phases, "X"), 4);
  EXPECT_EQ(std::ranges::count(phases, "M"), 1);
  EXPECT_EQ(std::ranges::count(phases, "C"), 2); // The map and the unmap that succeeded.
}

TEST(MappedBytesTest, FollowMapsUnmapsAndTheLastGroup) {
  observe::MappedBytes mapped;
  const auto bytes_after = [&](const trace::Record &record) {
    const auto changes = mapped.follow(record);
    return changes.empty() ? std::string("same") : std::to_string(changes[0].bytes.value);
  };
  EXPECT_EQ(bytes_after(joins(1, 1)), "same");
  EXPECT_EQ(bytes_after(map_of(2, 0, 0x3000)), "12288");
  EXPECT_EQ(bytes_after(map_of(3, 0x8000, 0x1000)), "16384");
  EXPECT_EQ(bytes_after(unmap_of(4, 0x3000)), "4096");
  trace::Record close{};
  close.kind = trace::Kind::close;
  close.file = 2;
  close.of_group = 1;
  EXPECT_EQ(bytes_after(close), "0");
  EXPECT_EQ(bytes_after(close), "same");
}

TEST(HumanLatencyTest, HasThreeDigits) {
  EXPECT_EQ(human_latency(850ns), "850 ns");
  EXPECT_EQ(human_latency(1234ns), "1.23 us");
  EXPECT_EQ(human_latency(12'345ns), "12.3 us");
  EXPECT_EQ(human_latency(999'900ns), "1.00 ms");
  EXPECT_EQ(human_latency(123ms), "123 ms");
  EXPECT_EQ(human_latency(90s), "90.0 s");
}

/// A daemon with one container and some calls.
class LiveTest : public testing::Test {
protected:
  void SetUp() override {
    auto created = observe::SharedLedger::create(prefix, {}, place.directory());
    ASSERT_TRUE(created) << created.error().describe();
    ledger = std::move(*created);
    container = ledger->container_opened(ledger->next_file(), Pid{::getpid()});
    ledger->mapped(container, {.iova = Iova{0},
                               .vaddr = ClientAddr{0},
                               .size = Bytes{4096},
                               .access = {.read = true, .write = true}});
  }

  void serve(const trace::Record &record) { ledger->statistics().add(record); }

  Look look() const {
    const auto reader = observe::LedgerReader::open(prefix, place.directory());
    EXPECT_TRUE(reader);
    return {.at = std::chrono::steady_clock::now(),
            .snapshot = reader->snapshot(),
            .kinds = reader->statistics()};
  }

  test::LedgerPlace place;
  const std::string prefix = "unit-test-live";
  std::unique_ptr<observe::SharedLedger> ledger;
  Ledger::Record container = 0;
};

TEST_F(LiveTest, TopShowsCallsErrorsAndContainers) {
  serve(some_calls().records[1]);
  serve(some_calls().records[3]);
  const std::string text = top_text(look(), nullptr, std::chrono::system_clock::now());
  EXPECT_SAYS(text, "2 calls");
  EXPECT_SAYS(text, "1 client, 1 container, 1 mapping of 4 KiB");
  EXPECT_SAYS(text, "VFIO_IOMMU_MAP_DMA");
  EXPECT_SAYS(text, "EEXIST 1");
  EXPECT_SAYS(text, "us");
  EXPECT_SAYS(text, "CONTAINER");
  EXPECT_EQ(text.find("VFIO_IOMMU_UNMAP_DMA"), std::string::npos); // There was none.
}

TEST_F(LiveTest, TopShowsWhatIsNewSinceTheLastLook) {
  serve(some_calls().records[1]);
  const Look before = look();
  Look now = look();
  now.at = before.at + 2s;
  EXPECT_SAYS(top_text(now, &before, std::chrono::system_clock::now()), "0.0 per second");
  for (int times = 0; times < 10; ++times)
    serve(some_calls().records[1]);
  now = look();
  now.at = before.at + 2s;
  EXPECT_SAYS(top_text(now, &before, std::chrono::system_clock::now()), "5.0 per second");
}

TEST_F(LiveTest, MetricsAreInPrometheusFormat) {
  serve(some_calls().records[1]);
  serve(some_calls().records[3]);
  const auto reader = observe::LedgerReader::open(prefix, place.directory());
  ASSERT_TRUE(reader);
  const std::string text = daemon::metrics_text(*reader);
  EXPECT_SAYS(text, "# TYPE vfio_shim_calls_total counter\n");
  EXPECT_SAYS(text, "vfio_shim_calls_total{call=\"VFIO_IOMMU_MAP_DMA\"} 2");
  EXPECT_SAYS(text, "vfio_shim_call_errors_total{call=\"VFIO_IOMMU_MAP_DMA\",errno=\"EEXIST\"} 1");
  EXPECT_SAYS(text, "vfio_shim_call_duration_seconds_count{call=\"VFIO_IOMMU_MAP_DMA\"} 2");
  EXPECT_SAYS(text,
              "vfio_shim_call_duration_seconds_bucket{call=\"VFIO_IOMMU_MAP_DMA\",le=\"+Inf\"} 2");
  EXPECT_SAYS(text, "vfio_shim_mapped_bytes 4096");
  // Only who was given a group is named.
  EXPECT_EQ(text.find("vfio_shim_program_containers{"), std::string::npos) << text;
  ledger->group_moved(ledger->group_opened(ledger->next_file(), GroupId{1}, Pid{::getpid()}),
                      container);
  EXPECT_SAYS(daemon::metrics_text(*reader), "vfio_shim_program_containers{program=\"unit_tests");
}

} // namespace
} // namespace vfio_shim::cli
