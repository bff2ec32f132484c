// SPDX-License-Identifier: MIT
#include "cli/compare/page.hpp"

#include "cli/compare/plot.hpp"
#include "cli/compare/report.hpp"
#include "cli/trace_text.hpp"
#include "observe/mapped_bytes.hpp"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

/// Told apart by those who see few colours as well (Okabe and Ito's).
constexpr std::array<const char *, 6> colours = {"#0072b2", "#e69f00", "#009e73",
                                                 "#cc79a7", "#d55e00", "#56b4e9"};

std::string colour_of(std::size_t turn) {
  return colours[turn % colours.size()];
}

constexpr const char *head = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>vfio-shim compare</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; } h3 { font: 600 .95rem ui-monospace, monospace; margin: 1.2rem 0 0; }
p { margin: .4rem 0; } .quiet { color: #666; } code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
.verdict { font-size: 1.15rem; padding: .7rem 1rem; border-left: .4rem solid; margin: 1rem 0; }
.same { border-color: #009e73; background: #eef8f4; } .diverged { border-color: #d55e00; background: #fdf1ea; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } th { text-align: left; border-bottom: 2px solid #999; }
th, td { padding: .2rem .6rem; vertical-align: top; } tr.first td { border-top: 1px solid #ccc; } td.number, th.number { text-align: right; white-space: nowrap; }
td.bad { color: #b03a00; font-weight: 600; } .key { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: #444; }
svg .grid { stroke: #e2e2e2; } svg .median { stroke: #222; stroke-width: 1.5; } svg .steps { fill: none; stroke-width: 2; stroke-opacity: .85; }
</style></head><body>
)";

std::string key(std::size_t turn, const std::string &name) {
  return fmt::format(R"(<span class="key" style="background:{}"></span>{})", colour_of(turn),
                     escaped(name));
}

std::string legend(const Comparison &comparison) {
  std::string text = "<p>";
  for (std::size_t i = 0; i < comparison.backends.size(); ++i)
    text += key(i, comparison.backends[i]) + "&emsp;";
  return text + "</p>\n";
}

std::string divergence_section(const Comparison &comparison) {
  std::string text = "<h2>Divergences</h2>\n";
  if (comparison.same())
    return text + "<p>None: every call had the same answer everywhere.</p>\n";
  constexpr std::size_t most_shown = 500;
  text += fmt::format("<p>Calls that another backend answered otherwise than {}.</p>\n"
                      "<table id=\"divergences\"><thead><tr><th>Call</th><th>Asked for</th>"
                      "<th>Expected ({})</th><th>Found</th></tr></thead><tbody>\n",
                      escaped(comparison.backends.front()), escaped(comparison.backends.front()));
  std::size_t shown = 0;
  for (const auto &[first, times] : distinct_divergences(comparison)) {
    if (shown++ >= most_shown)
      continue;
    const Divergence &divergence = *first;
    text += fmt::format(
        "<tr class=\"first\"><td><code>{}</code>{}<br><span class=\"quiet\">{}</span></td>"
        "<td>{}<br><span class=\"quiet\">{}</span></td><td>{}</td>"
        "<td class=\"bad\">{}: {}</td></tr>\n",
        escaped(divergence.call), times > 1 ? fmt::format(" ({} times)", times) : "",
        escaped(divergence.file), escaped(divergence.argument), escaped(divergence.memory),
        escaped(divergence.expected), escaped(divergence.backend), escaped(divergence.found));
  }
  text += "</tbody></table>\n";
  if (shown > most_shown)
    text += fmt::format("<p>... and {} more.</p>\n", shown - most_shown);
  return text;
}

std::string operation_section(const Comparison &comparison) {
  std::string text =
      "<h2>Every ioctl</h2>\n"
      "<p class=\"quiet\">p50: half of the calls were at least as fast; p99: 99 of 100. Ratio: the "
      "mean time "
      "against the first backend's; above 1 is slower.</p>\n"
      "<table><thead><tr><th>ioctl</th><th>Backend</th><th class=\"number\">Count</th>"
      "<th class=\"number\">Errors</th><th class=\"number\">p50</th><th class=\"number\">p99</th>"
      "<th class=\"number\">Total</th><th class=\"number\">Ratio</th></tr></thead><tbody>\n";
  for (const Operation &operation : comparison.operations)
    for (std::size_t i = 0; i < comparison.backends.size(); ++i) {
      const Figures &figures = operation.figures[i];
      const auto number = [&figures](const std::string &value) {
        return fmt::format("<td class=\"number\">{}</td>", figures.count != 0 ? value : "-");
      };
      text += fmt::format("<tr{}><td><code>{}</code></td><td>{}</td>{}{}{}{}{}{}</tr>\n",
                          i == 0 ? " class=\"first\"" : "", i == 0 ? escaped(operation.name) : "",
                          key(i, comparison.backends[i]), number(std::to_string(figures.count)),
                          number(std::to_string(figures.errors)), number(human_time(figures.p50)),
                          number(human_time(figures.p99)), number(human_time(figures.total)),
                          number(figures.ratio != 0 ? fmt::format("{:.2f}", figures.ratio) : "-"));
    }
  return text + "</tbody></table>\n";
}

std::string latency_section(const Comparison &comparison, const std::vector<Turn> &turns) {
  std::map<std::string, std::vector<Series>> by_operation;
  for (std::size_t turn = 0; turn < turns.size(); ++turn)
    for (const auto &record : turns[turn].recording.records) {
      if (record.kind != trace::Kind::call)
        continue;
      auto &series = by_operation[call_name(record)];
      for (std::size_t i = series.size(); i < turns.size(); ++i)
        series.push_back({.name = turns[i].name, .colour = colour_of(i), .values = {}});
      series[turn].values.push_back(record.total);
    }
  std::string text =
      "<h2>How long calls take</h2>\n"
      "<p class=\"quiet\">From when the shim receives a call to its answer, on a logarithmic "
      "axis: a column's height is the share of calls that took that long, the black "
      "line their median. Further left is faster.</p>\n";
  for (const Operation &operation : comparison.operations) {
    auto &series = by_operation[operation.name];
    for (Series &one : series)
      std::ranges::sort(one.values);
    text += fmt::format("<h3>{}</h3>\n{}", escaped(operation.name), distribution_plot(series));
  }
  return text;
}

/// What all containers of a recording have mapped together.
std::vector<Step> mapped_over_time(const observe::Recording &recording) {
  observe::MappedBytes mapped;
  std::map<std::uint32_t, std::uint64_t> containers;
  std::vector<Step> steps;
  for (const auto &record : recording.records) {
    for (const auto &change : mapped.follow(record))
      containers[change.container] = change.bytes.value;
    std::uint64_t sum = 0;
    for (const auto &[container, bytes] : containers)
      sum += bytes;
    steps.push_back({.at = record.at + record.total, .value = sum});
  }
  std::ranges::stable_sort(steps, {}, &Step::at);
  return steps;
}

std::string mapped_section(const Comparison &comparison, const std::vector<Turn> &turns) {
  std::vector<StepLine> lines;
  for (std::size_t turn = 0; turn < turns.size(); ++turn)
    lines.push_back({.name = turns[turn].name,
                     .colour = colour_of(turn),
                     .steps = mapped_over_time(turns[turn].recording)});
  return "<h2>Mapped memory over time</h2>\n"
         "<p class=\"quiet\">What all containers have mapped together, from the start of each "
         "run.</p>\n" +
         legend(comparison) + step_plot(lines);
}

} // namespace

std::string comparison_page(const Comparison &comparison, const std::vector<Turn> &turns,
                            const std::string &subject) {
  return head +
         fmt::format("<h1>The same program on {} backends</h1>\n<p><code>{}</code></p>\n"
                     "<p class=\"verdict {}\">{}</p>\n<p class=\"quiet\">{} Linux {}.</p>\n",
                     turns.size(), escaped(subject), comparison.same() ? "same" : "diverged",
                     escaped(verdict_text(comparison)), escaped(comparison_rule()),
                     escaped(turns.front().recording.kernel)) +
         divergence_section(comparison) + operation_section(comparison) +
         latency_section(comparison, turns) + mapped_section(comparison, turns) +
         "</body></html>\n";
}

} // namespace vfio_shim::cli
