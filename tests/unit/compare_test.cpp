// SPDX-License-Identifier: MIT
#include "cli/compare/alignment.hpp"
#include "cli/compare/comparison.hpp"
#include "cli/compare/page.hpp"
#include "cli/compare/report.hpp"

#include <string>

#include <gtest/gtest.h>

#include "support/machine_test.hpp"
#include "support/recorded.hpp"

namespace vfio_shim::cli {
namespace {

using test::Recorded;

/// A container that maps page after page.
Recorded mapping_program(std::uint64_t vaddr, int pages, const std::string &backend = "iommufd") {
  Recorded program(backend);
  program.open_container(1);
  for (int page = 0; page < pages; ++page)
    program.map(1, 0x1000U * static_cast<unsigned>(page), 0x1000, vaddr);
  return program;
}

std::vector<Turn> turns_of(const Recorded &one, const Recorded &other) {
  return {{.name = "iommufd", .recording = one.recording, .exit_status = 0},
          {.name = "broken", .recording = other.recording, .exit_status = 0}};
}

TEST(Alignment, AddressesAndPidsDoNotMatter) {
  const Recorded one = mapping_program(0x10000, 3);
  Recorded other = mapping_program(0x7f0000, 3);
  for (auto &record : other.recording.records)
    record.pid = 5;
  const Alignment alignment = align(one.recording, other.recording);
  EXPECT_EQ(alignment.pairs.size(), 4U);
  EXPECT_TRUE(alignment.only_one.empty());
  EXPECT_TRUE(alignment.only_other.empty());
}

TEST(Alignment, FindsWhatIsMissingInTheMiddle) {
  const Recorded one = mapping_program(0x10000, 5);
  Recorded other = mapping_program(0x10000, 5);
  other.recording.records.erase(other.recording.records.begin() + 3);
  const Alignment alignment = align(one.recording, other.recording);
  EXPECT_EQ(alignment.pairs.size(), 5U);
  ASSERT_EQ(alignment.only_one.size(), 1U);
  EXPECT_EQ(alignment.only_one[0]->sequence, 4U);
}

TEST(Alignment, PairsFilesByGroupAndOpening) {
  Recorded one;
  one.open_group(1, 5);
  one.open_group(2, 6);
  Recorded other;
  other.open_group(1, 6);
  other.open_group(2, 5);
  const Alignment alignment = align(one.recording, other.recording);
  ASSERT_EQ(alignment.pairs.size(), 2U);
  for (const auto &[left, right] : alignment.pairs)
    EXPECT_EQ(left->group, right->group);
}

TEST(Compare, TheSameProgramIsTheSame) {
  const Comparison comparison =
      compare(turns_of(mapping_program(0x10000, 3), mapping_program(0x20000, 3)));
  EXPECT_TRUE(comparison.same());
  EXPECT_EQ(verdict_text(comparison),
            "Nothing diverged: 3 calls, answered alike on iommufd, broken.");
}

TEST(Compare, NamesTheCallThatFailedElsewhere) {
  const Recorded one = mapping_program(0x10000, 3);
  Recorded other = mapping_program(0x10000, 3);
  Recorded::fails(other.recording.records[2], EBUSY);
  const Comparison comparison = compare(turns_of(one, other));
  ASSERT_EQ(comparison.divergences.size(), 1U);
  const Divergence &divergence = comparison.divergences[0];
  EXPECT_EQ(divergence.call, "VFIO_IOMMU_MAP_DMA");
  EXPECT_EQ(divergence.argument, "iova 0x1000, 4 KiB at 0x10000, rw");
  EXPECT_EQ(divergence.backend, "broken");
  EXPECT_EQ(divergence.expected, "0");
  EXPECT_EQ(divergence.found, "EBUSY");
}

TEST(Compare, WhatIsWrittenBackCounts) {
  Recorded one;
  Recorded other;
  for (Recorded *recorded : {&one, &other}) {
    recorded->open_container(1);
    auto &unmap = Recorded::with(
        recorded->call(1, VFIO_IOMMU_UNMAP_DMA),
        vfio_iommu_type1_dma_unmap{.argsz = 24, .flags = 0, .iova = 0, .size = 0x2000});
    unmap.was_written = 24;
  }
  EXPECT_TRUE(compare(turns_of(one, other)).same());
  other.recording.records[1].after[17] = std::byte{0x10}; // The size: 0x1000.
  const Comparison comparison = compare(turns_of(one, other));
  ASSERT_EQ(comparison.divergences.size(), 1U);
  EXPECT_EQ(comparison.divergences[0].expected, "8 KiB");
  EXPECT_EQ(comparison.divergences[0].found, "4 KiB");
}

TEST(Compare, TheSameDivergenceIsShownOnce) {
  Recorded one;
  Recorded other;
  for (Recorded *recorded : {&one, &other}) {
    recorded->open_container(1);
    for (const std::uint64_t size : {0x1000U, 0x1000U, 0x2000U})
      Recorded::with(recorded->call(1, VFIO_IOMMU_UNMAP_DMA),
                     vfio_iommu_type1_dma_unmap{.argsz = 24, .flags = 0, .iova = 0, .size = size});
  }
  for (auto &record : std::span(other.recording.records).last(3))
    Recorded::fails(record, EINVAL);
  const auto turns = turns_of(one, other);
  const Comparison comparison = compare(turns);
  EXPECT_EQ(comparison.divergences.size(), 3U);
  const auto distinct = distinct_divergences(comparison);
  ASSERT_EQ(distinct.size(), 2U);
  EXPECT_EQ(distinct[0].times, 2U);
  EXPECT_EQ(distinct[1].times, 1U);
  const std::string text = comparison_text(comparison);
  EXPECT_NE(text.find("on container 1 (2 times)\n"), std::string::npos) << text;
  EXPECT_NE(comparison_page(comparison, turns, "true").find(" (2 times)"), std::string::npos);
}

TEST(Compare, DescriptorNumbersDoNot) {
  Recorded one;
  Recorded other;
  for (Recorded *recorded : {&one, &other}) {
    recorded->open_group(1, 5);
    Recorded::on_group(recorded->call(1, VFIO_GROUP_GET_DEVICE_FD), 5);
  }
  other.recording.records[1].result = 9;
  EXPECT_TRUE(compare(turns_of(one, other)).same());
}

TEST(Compare, AQuestionThatIsRepeatedIsNoDivergence) {
  const Recorded other = mapping_program(0x10000, 2);
  Recorded polling = other;
  polling.map(1, 0x1000, 0x1000, 0x10000);
  const Comparison comparison = compare(turns_of(other, polling));
  EXPECT_TRUE(comparison.same());
  EXPECT_EQ(comparison.repeated, (std::vector<std::uint64_t>{0, 1}));
  polling.map(1, 0x9000, 0x1000, 0x10000);
  EXPECT_FALSE(compare(turns_of(other, polling)).same()) << "what only one asks for is one";
}

TEST(Compare, TheCommandsOwnStatusCounts) {
  auto turns = turns_of(mapping_program(0x10000, 1), mapping_program(0x10000, 1));
  turns[1].exit_status = 3;
  const Comparison comparison = compare(turns);
  ASSERT_EQ(comparison.divergences.size(), 1U);
  EXPECT_EQ(comparison.divergences[0].found, "3");
}

TEST(Compare, CountsAndTimesEveryIoctl) {
  Recorded one = mapping_program(0x10000, 100);
  Recorded other = mapping_program(0x10000, 100);
  for (auto &record : other.recording.records)
    record.total = 3000;
  one.recording.records.back().total = 50000;
  const Comparison comparison = compare(turns_of(one, other));
  ASSERT_EQ(comparison.operations.size(), 1U);
  const Figures &first = comparison.operations[0].figures[0];
  EXPECT_EQ(first.count, 100U);
  EXPECT_EQ(first.errors, 0U);
  EXPECT_EQ(first.p50, 1000U);
  EXPECT_EQ(first.p99, 50000U);
  EXPECT_EQ(first.total, 149000U);
  EXPECT_DOUBLE_EQ(comparison.operations[0].figures[1].ratio, 300000.0 / 149000.0);
}

/// Makes the same calls on a container of the library, and notes what it answers.
class OnBackend : public test::MachineTest {
protected:
  Recorded run(const std::string &backend) {
    Recorded recorded(backend);
    auto container = program.open_container();
    const auto group = program.open_group_in(test::first_group, container);
    recorded.open_container(1);
    for (std::uint64_t page = 0; page < 4; ++page) {
      const Iova iova{0x100000 + page * 0x1000};
      const auto answer = container.map(iova, test::address_of(memory.begin()), Bytes{0x1000});
      auto &record = recorded.map(1, iova.value, 0x1000, test::address_of(memory.begin()).value);
      record.result = answer.value();
      for (const int code : {EBUSY, ENOMEM})
        if (answer == test::fails(code))
          Recorded::fails(record, code);
    }
    return recorded;
  }

  test::Pages memory{1};
};

TEST_F(OnBackend, ABrokenBackendIsCaughtAndNamed) {
  const Recorded sound = run("iommufd");
  machine.fail_next("map", ENOMEM);
  const Comparison comparison = compare(turns_of(sound, run("broken")));
  ASSERT_EQ(comparison.divergences.size(), 1U);
  EXPECT_EQ(comparison.divergences[0].backend, "broken");
  EXPECT_EQ(comparison.divergences[0].found, "ENOMEM");
  EXPECT_EQ(verdict_text(comparison), "Diverged from iommufd: broken (divergences: 1, calls: 4).");
  const std::string text = comparison_text(comparison);
  EXPECT_NE(text.find("VFIO_IOMMU_MAP_DMA, iova 0x100000, 4 KiB"), std::string::npos) << text;
  EXPECT_FALSE(comparison_json(comparison)["same"].get<bool>());
}

TEST(ComparisonPage, StandsAlone) {
  const auto turns = turns_of(mapping_program(0x10000, 9), mapping_program(0x10000, 9));
  const std::string page = comparison_page(compare(turns), turns, "qemu <b> & \"friends\"");
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_NE(page.find("qemu &lt;b&gt; &amp; &quot;friends&quot;"), std::string::npos);
  for (const char *outside : {"<script", "<link", "src=", "http"})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

TEST(ComparisonPage, BearsAnEmptyRecording) {
  const auto turns = turns_of(Recorded(), Recorded());
  EXPECT_NE(comparison_page(compare(turns), turns, "true").find("No call was made"),
            std::string::npos);
}

} // namespace
} // namespace vfio_shim::cli
