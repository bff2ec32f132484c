// SPDX-License-Identifier: MIT
#include "cli/compare/report.hpp"

#include "cli/human.hpp"
#include "cli/table.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfio_shim::cli {

namespace {

/// Of each kind: a program that fails the same way a thousand times has failed once.
constexpr std::size_t most_shown = 20;

std::string divergence_text(const DistinctDivergence &distinct, const std::string &first) {
  const Divergence &divergence = *distinct.first;
  std::string text = fmt::format("  {}", divergence.call);
  for (const std::string &part : {divergence.argument, divergence.memory})
    if (!part.empty())
      text += ", " + printable(part);
  text += ", on " + divergence.file;
  if (distinct.times > 1)
    text += fmt::format(" ({} times)", distinct.times);
  return fmt::format("{}\n      {}: {}, {}: {}\n", text, first, divergence.expected,
                     divergence.backend, divergence.found);
}

Table operation_table(const Comparison &comparison) {
  using enum Table::Align;
  Table table({{"IOCTL", left},
               {"BACKEND", left},
               {"COUNT", right},
               {"ERRORS", right},
               {"P50", right},
               {"P99", right},
               {"TOTAL", right},
               {"RATIO", right}});
  for (const Operation &operation : comparison.operations)
    for (std::size_t i = 0; i < comparison.backends.size(); ++i) {
      const Figures &figures = operation.figures[i];
      const bool called = figures.count != 0;
      const auto if_called = [called](const std::string &text) {
        return called ? text : std::string("-");
      };
      table.add_row({i == 0 ? operation.name : "", comparison.backends[i],
                     std::to_string(figures.count), std::to_string(figures.errors),
                     if_called(human_time(figures.p50)), if_called(human_time(figures.p99)),
                     if_called(human_time(figures.total)),
                     figures.ratio != 0 ? fmt::format("{:.2f}", figures.ratio) : "-"});
    }
  return table;
}

std::uint64_t calls_on(const Comparison &comparison, std::size_t backend) {
  std::uint64_t calls = 0;
  for (const Operation &operation : comparison.operations)
    calls += operation.figures[backend].count;
  return calls;
}

} // namespace

std::string human_time(std::uint64_t nanoseconds) {
  struct Unit {
    double size;
    const char *name;
  };
  constexpr std::array<Unit, 4> units = {{{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}}};
  const auto number = static_cast<double>(nanoseconds);
  const auto *const unit = std::ranges::find_if(
      units, [number](const Unit &candidate) { return number >= candidate.size; });
  const Unit &chosen = unit == units.end() ? units.back() : *unit;
  const double value = number / chosen.size;
  const std::string digits = fmt::format("{:.{}f}", value, value < 10 ? 1 : 0);
  return fmt::format("{} {}", digits.ends_with(".0") ? digits.substr(0, 1) : digits, chosen.name);
}

std::string verdict_text(const Comparison &comparison) {
  const std::string among = fmt::format("{}", fmt::join(comparison.backends, ", "));
  if (calls_on(comparison, 0) == 0)
    return fmt::format("No call was made: nothing to compare on {}.", among);
  if (comparison.same())
    return fmt::format("Nothing diverged: {} calls, answered alike on {}.", calls_on(comparison, 0),
                       among);
  std::string text = "Diverged from " + comparison.backends.front() + ":";
  for (std::size_t i = 1; i < comparison.backends.size(); ++i) {
    const auto count =
        std::ranges::count(comparison.divergences, comparison.backends[i], &Divergence::backend);
    if (count != 0)
      text += fmt::format(" {} (divergences: {}, calls: {})", comparison.backends[i], count,
                          std::max(calls_on(comparison, 0), calls_on(comparison, i)));
  }
  return text + ".";
}

std::string comparison_rule() {
  return "Calls are paired per open file, in order, by ioctl, flags, IOVA range, device and "
         "extension. Their errno, value and what they write back must be the same; addresses, "
         "descriptor numbers, process ids, and how often a question is repeated, may differ. Times "
         "run from when the shim receives a call to its answer; RATIO compares mean times with the "
         "first backend's.";
}

std::string comparison_text(const Comparison &comparison) {
  std::string text = operation_table(comparison).text();
  if (!comparison.same())
    text += "\ndivergences:\n";
  std::size_t shown = 0;
  for (const DistinctDivergence &distinct : distinct_divergences(comparison))
    if (shown++ < most_shown)
      text += divergence_text(distinct, comparison.backends.front());
  if (shown > most_shown)
    text += fmt::format("  ... and {} more (--json has them all)\n", shown - most_shown);
  return text + '\n' + verdict_text(comparison) + '\n';
}

nlohmann::ordered_json comparison_json(const Comparison &comparison) {
  using nlohmann::ordered_json;
  ordered_json json{{"same", comparison.same()},           {"verdict", verdict_text(comparison)},
                    {"rule", comparison_rule()},           {"backends", comparison.backends},
                    {"repeated", comparison.repeated},     {"ioctls", ordered_json::array()},
                    {"divergences", ordered_json::array()}};
  for (const Operation &operation : comparison.operations) {
    ordered_json on_backends;
    for (std::size_t i = 0; i < comparison.backends.size(); ++i) {
      const Figures &figures = operation.figures[i];
      on_backends[comparison.backends[i]] = {
          {"count", figures.count}, {"errors", figures.errors},  {"p50_ns", figures.p50},
          {"p99_ns", figures.p99},  {"total_ns", figures.total}, {"ratio", figures.ratio}};
    }
    json["ioctls"].push_back({{"name", operation.name}, {"backends", on_backends}});
  }
  for (const Divergence &divergence : comparison.divergences)
    json["divergences"].push_back({{"call", divergence.call},
                                   {"file", divergence.file},
                                   {"argument", printable(divergence.argument)},
                                   {"memory", divergence.memory},
                                   {"expected_on", comparison.backends.front()},
                                   {"expected", divergence.expected},
                                   {"found_on", divergence.backend},
                                   {"found", divergence.found}});
  return json;
}

} // namespace vfio_shim::cli
