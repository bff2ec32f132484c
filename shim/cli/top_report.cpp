// SPDX-License-Identifier: MIT
#include "cli/top_report.hpp"

#include "cli/human.hpp"
#include "cli/status_report.hpp"
#include "cli/table.hpp"

#include "vfio_shim/result.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

using observe::Latencies;
using observe::Snapshot;
using Kind = observe::Statistics::Kind;

/// One kind of call, with what is new of it.
struct Row {
  const Kind *kind;
  std::uint64_t recent; ///< Calls in the time that is looked at.
  Latencies latencies;  ///< Of those.
};

struct Totals {
  std::uint64_t calls = 0;
  std::uint64_t recent = 0;
  std::uint64_t failed = 0;
  std::uint64_t borrowed = 0;
};

std::vector<Row> rows_of(const Look &now, const Look *before) {
  std::vector<Row> rows;
  for (std::size_t index = 0; index < now.kinds.size(); ++index) {
    const Kind &kind = now.kinds[index];
    if (kind.calls == 0)
      continue;
    if (before == nullptr)
      rows.push_back({.kind = &kind, .recent = kind.calls, .latencies = kind.latencies});
    else
      rows.push_back({.kind = &kind,
                      .recent = kind.calls - before->kinds[index].calls,
                      .latencies = kind.latencies.since(before->kinds[index].latencies)});
  }
  return rows;
}

Totals sum_of(const std::vector<Row> &rows) {
  Totals totals;
  for (const Row &row : rows) {
    totals.calls += row.kind->calls;
    totals.recent += row.recent;
    totals.failed += row.kind->failed();
    totals.borrowed += row.kind->borrowed;
  }
  return totals;
}

double seconds_between(const Look &now, const Look *before, observe::Time time) {
  using Seconds = std::chrono::duration<double>;
  const Seconds passed =
      before != nullptr ? Seconds(now.at - before->at) : Seconds(time - now.snapshot.daemon.since);
  return std::max(passed.count(), 1e-3);
}

/// "EEXIST 12, EINVAL 3": the most frequent first.
std::string errors_text(const Kind &kind) {
  constexpr std::size_t shown = 3;
  std::vector<std::pair<std::uint64_t, int>> errors;
  for (std::size_t error = 1; error < kind.errors.size(); ++error)
    if (kind.errors[error] != 0)
      errors.emplace_back(kind.errors[error], static_cast<int>(error));
  std::ranges::sort(errors, std::greater<>());
  std::string text;
  for (std::size_t index = 0; index < std::min(shown, errors.size()); ++index)
    text += fmt::format("{}{} {}", index == 0 ? "" : ", ", errno_name(errors[index].second),
                        errors[index].first);
  return errors.size() > shown ? text + ", ..." : text;
}

std::string latency_text(const Row &row, double fraction) {
  return row.recent != 0 ? human_latency(row.latencies.quantile(fraction)) : "-";
}

std::string calls_text(const std::vector<Row> &rows, double seconds) {
  using enum Table::Align;
  Table table({{.title = "CALL", .align = left},
               {.title = "CALLS", .align = right},
               {.title = "PER SEC", .align = right},
               {.title = "P50", .align = right},
               {.title = "P99", .align = right},
               {.title = "BORROWED", .align = right},
               {.title = "FAILED", .align = right},
               {.title = "ERRORS", .align = left}});
  for (const Row &row : rows)
    table.add_row({row.kind->name, std::to_string(row.kind->calls),
                   fmt::format("{:.1f}", static_cast<double>(row.recent) / seconds),
                   latency_text(row, 0.5), latency_text(row, 0.99),
                   std::to_string(row.kind->borrowed), std::to_string(row.kind->failed()),
                   errors_text(*row.kind)});
  return table.text();
}

std::string summary_text(const Snapshot &snapshot, const Totals &totals, double seconds) {
  std::set<int> clients;
  std::uint64_t mappings = 0;
  Bytes mapped;
  for (const Snapshot::Container &container : snapshot.containers) {
    clients.insert(container.client.pid.value);
    mappings += container.mappings;
    mapped = mapped + container.mapped_bytes;
  }
  return fmt::format("{} calls, {:.1f} per second, {} failed, {} borrowed a thread\n"
                     "{}, {}, {} of {}\n",
                     totals.calls, static_cast<double>(totals.recent) / seconds, totals.failed,
                     totals.borrowed, counted(clients.size(), "client"),
                     counted(snapshot.containers.size(), "container"), counted(mappings, "mapping"),
                     human_bytes(mapped));
}

} // namespace

std::string top_text(const Look &now, const Look *before, observe::Time time) {
  const std::vector<Row> rows = rows_of(now, before);
  const double seconds = seconds_between(now, before, time);
  std::string text = head_text(now.snapshot.daemon, time);
  text += summary_text(now.snapshot, sum_of(rows), seconds) + '\n';
  text += rows.empty() ? "no calls yet\n" : calls_text(rows, seconds);
  text += '\n' + containers_text(now.snapshot, time);
  return text;
}

} // namespace vfio_shim::cli
