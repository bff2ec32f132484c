// SPDX-License-Identifier: MIT
#include "observe/latency_histogram.hpp"
#include "observe/statistics.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <rapidcheck/gtest.h>

namespace vfio_shim::observe {
namespace {

using namespace std::chrono_literals;

RC_GTEST_PROP(LatencyBucketsProperty, ABucketHoldsWhatLiesBelowItsEnd, ()) {
  const auto nanoseconds = *rc::gen::inRange<std::uint64_t>(256, std::uint64_t{1} << 40U);
  const std::size_t bucket = LatencyBuckets::of(nanoseconds);
  RC_ASSERT(nanoseconds < LatencyBuckets::end_of(bucket));
  RC_ASSERT(bucket == 0 || nanoseconds >= LatencyBuckets::end_of(bucket - 1));
}

RC_GTEST_PROP(LatencyBucketsProperty, BoundsAreAnEighthApart, ()) {
  const auto bucket = *rc::gen::inRange<std::size_t>(1, LatencyBuckets::count);
  const auto begin = LatencyBuckets::end_of(bucket - 1);
  RC_ASSERT(LatencyBuckets::end_of(bucket) - begin <= begin / 8);
}

TEST(LatencyBucketsTest, TakesWhatIsTooShortOrTooLong) {
  EXPECT_EQ(LatencyBuckets::of(0), 0U);
  EXPECT_EQ(LatencyBuckets::of(UINT64_MAX), LatencyBuckets::count - 1);
}

TEST(LatenciesTest, TellsQuantiles) {
  LatencyHistogram histogram{};
  for (std::uint64_t microseconds = 1; microseconds <= 100; ++microseconds)
    histogram.add(microseconds * 1000);
  const Latencies latencies = histogram.read();
  EXPECT_NEAR(static_cast<double>(latencies.quantile(0.5).count()), 50e3, 50e3 / 8);
  EXPECT_NEAR(static_cast<double>(latencies.quantile(0.99).count()), 99e3, 99e3 / 8);
  EXPECT_EQ(Latencies{}.quantile(0.5), 0ns);
}

TEST(LatenciesTest, TellsWhatHasComeSince) {
  LatencyHistogram histogram{};
  histogram.add(1000);
  const Latencies earlier = histogram.read();
  histogram.add(1'000'000);
  EXPECT_GE(histogram.read().since(earlier).quantile(0), 1ms);
}

TEST(StatisticsTest, TellsKindsOfCallsApart) {
  const auto statistics = std::make_unique<Statistics>();
  const auto add = [&](trace::Kind kind, std::uint32_t command, int error) {
    trace::Record record{};
    record.kind = kind;
    record.command = command;
    record.error = error;
    record.total = 1000;
    statistics->add(record);
  };
  add(trace::Kind::open_container, 0, 0);
  add(trace::Kind::open_group, 0, EBUSY);
  add(trace::Kind::close, 0, 0);
  add(trace::Kind::call, VFIO_IOMMU_MAP_DMA, 0);
  add(trace::Kind::call, VFIO_IOMMU_MAP_DMA, EEXIST);
  add(trace::Kind::call, VFIO_IOMMU_MAP_DMA, 100'000); // No errno: must not disturb.
  add(trace::Kind::call, 0xdeadbeef, ENOTTY);

  const auto kinds = statistics->read();
  const auto &map = kinds[_IOC_NR(VFIO_IOMMU_MAP_DMA) - VFIO_BASE];
  EXPECT_EQ(map.name, "VFIO_IOMMU_MAP_DMA");
  EXPECT_EQ(map.calls, 3U);
  EXPECT_EQ(map.failed(), 2U);
  EXPECT_EQ(map.errors[EEXIST], 1U);
  EXPECT_EQ(map.nanoseconds, 3000U);
  EXPECT_EQ(kinds[Statistics::opens].calls, 2U);
  EXPECT_EQ(kinds[Statistics::opens].errors[EBUSY], 1U);
  EXPECT_EQ(kinds[Statistics::closes].calls, 1U);
  EXPECT_EQ(kinds[Statistics::other_ioctls].failed(), 1U);
}

} // namespace
} // namespace vfio_shim::observe
