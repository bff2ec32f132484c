// SPDX-License-Identifier: MIT
#include "daemon/metrics.hpp"

#include "observe/statistics.hpp"

#include "vfio_shim/printable.hpp"
#include "vfio_shim/result.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace vfio_shim::daemon {

namespace {

using observe::LatencyBuckets;
using observe::Snapshot;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Kind = observe::Statistics::Kind;
using Labels = std::vector<ClientMetric::Label>;

ClientMetric counter(Labels labels, std::uint64_t value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.counter.value = static_cast<double>(value);
  return metric;
}

ClientMetric gauge(Labels labels, std::uint64_t value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = static_cast<double>(value);
  return metric;
}

/// One bucket for each power of two: enough for a graph, and a hundred series less per call.
ClientMetric durations(const Kind &kind) {
  ClientMetric metric;
  metric.label = {{"call", kind.name}};
  metric.histogram.sample_count = kind.calls;
  metric.histogram.sample_sum = static_cast<double>(kind.nanoseconds) / 1e9;
  std::uint64_t so_far = 0;
  for (std::size_t bucket = 0; bucket < LatencyBuckets::count; ++bucket) {
    so_far += kind.latencies.counts[bucket];
    if ((bucket + 1) % LatencyBuckets::steps == 0)
      metric.histogram.bucket.push_back(
          {so_far, static_cast<double>(LatencyBuckets::end_of(bucket)) / 1e9});
  }
  // The last one takes whatever took longer, so it has no end.
  metric.histogram.bucket.back().upper_bound = std::numeric_limits<double>::infinity();
  metric.histogram.sample_count = so_far;
  return metric;
}

void add_calls(const std::vector<Kind> &kinds, std::vector<MetricFamily> &families) {
  MetricFamily calls{"vfio_shim_calls_total", "Legacy calls served.", MetricType::Counter, {}};
  MetricFamily errors{"vfio_shim_call_errors_total",
                      "Legacy calls that failed, by errno.",
                      MetricType::Counter,
                      {}};
  MetricFamily borrows{"vfio_shim_borrows_total",
                       "Calls for which the client's thread was borrowed.",
                       MetricType::Counter,
                       {}};
  MetricFamily took{"vfio_shim_call_duration_seconds",
                    "Time from a call's arrival to its answer.",
                    MetricType::Histogram,
                    {}};
  for (const Kind &kind : kinds) {
    if (kind.calls == 0)
      continue;
    calls.metric.push_back(counter({{"call", kind.name}}, kind.calls));
    borrows.metric.push_back(counter({{"call", kind.name}}, kind.borrowed));
    took.metric.push_back(durations(kind));
    for (std::size_t error = 1; error < kind.errors.size(); ++error)
      if (kind.errors[error] != 0)
        errors.metric.push_back(
            counter({{"call", kind.name}, {"errno", errno_name(static_cast<int>(error))}},
                    kind.errors[error]));
  }
  for (MetricFamily *family : {&calls, &errors, &borrows, &took})
    families.push_back(std::move(*family));
}

/// Programs by what they call themselves. Only those that were given a group: anybody may open the
/// container, under any number of names.
MetricFamily programs_of(const Snapshot &snapshot) {
  std::map<std::string, std::uint64_t> containers;
  for (const Snapshot::Container &container : snapshot.containers)
    if (!container.groups.empty())
      ++containers[printable(container.client.command)];
  MetricFamily family{"vfio_shim_program_containers",
                      "Containers with a group that are open, by program.",
                      MetricType::Gauge,
                      {}};
  for (const auto &[program, count] : containers)
    family.metric.push_back(gauge({{"program", program}}, count));
  return family;
}

void add_ledger(const Snapshot &snapshot, std::vector<MetricFamily> &families) {
  std::set<int> clients;
  std::uint64_t groups = snapshot.groups_without_container.size();
  std::uint64_t devices = 0;
  std::uint64_t mappings = 0;
  Bytes mapped;
  for (const Snapshot::Container &container : snapshot.containers) {
    clients.insert(container.client.pid.value);
    groups += container.groups.size();
    mappings += container.mappings;
    mapped = mapped + container.mapped_bytes;
    for (const Snapshot::Group &group : container.groups)
      devices += group.devices.size();
  }
  const auto add = [&](const char *name, const char *help, std::uint64_t value) {
    families.push_back({name, help, MetricType::Gauge, {gauge({}, value)}});
  };
  add("vfio_shim_clients", "Processes that have a container open.", clients.size());
  add("vfio_shim_containers", "Containers that are open.", snapshot.containers.size());
  add("vfio_shim_groups", "Groups that are open.", groups);
  add("vfio_shim_devices", "Devices that are open at clients.", devices);
  add("vfio_shim_mappings", "Live DMA mappings.", mappings);
  add("vfio_shim_mapped_bytes", "Client memory that is mapped.", mapped.value);
  families.push_back(programs_of(snapshot));
  families.push_back({"vfio_shim_ledger_refused_total",
                      "Records for which the ledger had no room.",
                      MetricType::Counter,
                      {counter({}, snapshot.refused)}});
  families.push_back(
      {"vfio_shim_info",
       "What serves where.",
       MetricType::Gauge,
       {gauge({{"prefix", snapshot.daemon.prefix}, {"kernel", snapshot.daemon.kernel}}, 1)}});
}

} // namespace

std::string metrics_text(const observe::LedgerReader &ledger) {
  std::vector<MetricFamily> families;
  add_ledger(ledger.snapshot(), families);
  add_calls(ledger.statistics(), families);
  return prometheus::TextSerializer().Serialize(families);
}

} // namespace vfio_shim::daemon
