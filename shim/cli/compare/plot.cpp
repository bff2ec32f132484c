// SPDX-License-Identifier: MIT
#include "cli/compare/plot.hpp"

#include "cli/compare/report.hpp"
#include "cli/human.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

constexpr int width = 720;
constexpr int left = 110; ///< For the names of the rows.
constexpr int right = 20;
constexpr double plot_width = width - left - right;

std::string svg(int height, const std::string &label, const std::string &content) {
  return fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>\n", width,
                     height, escaped(label), content);
}

std::string text(double x, double y, const char *anchor, const std::string &words) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)", x, y, anchor,
                     escaped(words));
}

std::string vertical(double x, double top, double bottom, const char *kind) {
  return fmt::format(R"(<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>)", kind,
                     x, x, top, bottom);
}

/// A logarithmic axis of time that begins and ends with a power of ten.
class TimeAxis {
public:
  TimeAxis(std::uint64_t least, std::uint64_t most)
      : first_(static_cast<int>(std::floor(decade(least)))),
        last_(std::max(first_ + 1, static_cast<int>(std::ceil(decade(most))))) {}

  double x(std::uint64_t nanoseconds) const {
    return left + plot_width * (decade(nanoseconds) - first_) / (last_ - first_);
  }

  std::string ticks(double bottom) const {
    std::string drawn;
    for (int power = first_; power <= last_; ++power) {
      const auto value = static_cast<std::uint64_t>(std::llround(std::pow(10, power)));
      drawn += vertical(x(value), 4, bottom, "grid");
      drawn += text(x(value), bottom + 15, "middle", human_time(value));
    }
    return drawn;
  }

private:
  static double decade(std::uint64_t nanoseconds) {
    return std::log10(static_cast<double>(std::max<std::uint64_t>(nanoseconds, 1)));
  }

  int first_;
  int last_;
};

std::string columns(const Series &series, const TimeAxis &axis, double bottom, double height) {
  constexpr std::size_t bins = 96;
  constexpr double bin_width = plot_width / bins;
  std::vector<std::size_t> counts(bins);
  for (const std::uint64_t value : series.values) {
    const auto bin = static_cast<std::size_t>(std::max(0.0, (axis.x(value) - left) / bin_width));
    ++counts[std::min(bin, bins - 1)];
  }
  const auto most = static_cast<double>(std::ranges::max(counts));
  std::string drawn;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    if (counts[bin] == 0)
      continue;
    // Whatever was measured is seen, also a single value beside a thousand.
    const double tall = std::max(2.0, height * static_cast<double>(counts[bin]) / most);
    drawn += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
                         "fill=\"{}\"/>",
                         left + static_cast<double>(bin) * bin_width, bottom - tall,
                         bin_width - 0.5, tall, series.colour);
  }
  return drawn;
}

/// The scale's top: the next power of two.
std::uint64_t round_up(std::uint64_t bytes) {
  std::uint64_t power = 4096;
  while (power < bytes)
    power *= 2;
  return power;
}

} // namespace

std::string escaped(const std::string &words) {
  std::string safe;
  for (const char letter : printable(words))
    switch (letter) {
    case '<':
      safe += "&lt;";
      break;
    case '>':
      safe += "&gt;";
      break;
    case '&':
      safe += "&amp;";
      break;
    case '"':
      safe += "&quot;";
      break;
    default:
      safe += letter;
    }
  return safe;
}

std::string distribution_plot(const std::vector<Series> &series) {
  constexpr int row = 50;
  constexpr int label = 18;
  std::uint64_t least = UINT64_MAX;
  std::uint64_t most = 1;
  for (const Series &one : series)
    if (!one.values.empty()) {
      least = std::min(least, one.values.front());
      most = std::max(most, one.values.back());
    }
  const TimeAxis axis(std::min(least, most), most);
  const double bottom = static_cast<double>(series.size()) * row + 6;
  std::string drawn = axis.ticks(bottom);
  double base = 0;
  for (const Series &one : series) {
    base += row;
    drawn += text(left - 8, base - 4, "end", one.name);
    if (one.values.empty()) {
      drawn += text(left + 8, base - 4, "start", "not called");
      continue;
    }
    drawn += columns(one, axis, base, row - label - 2);
    const std::uint64_t median = one.values[one.values.size() / 2];
    drawn += vertical(axis.x(median), base - row + 5, base, "median");
    const bool near_the_end = axis.x(median) > width - right - 90;
    drawn += text(axis.x(median) + (near_the_end ? -4 : 4), base - row + 14,
                  near_the_end ? "end" : "start", human_time(median));
  }
  return svg(static_cast<int>(bottom) + 22, "distribution of latencies", drawn);
}

std::string step_plot(const std::vector<StepLine> &lines) {
  constexpr double top = 8;
  constexpr double bottom = 190;
  std::uint64_t last = 1;
  std::uint64_t most = 0;
  for (const StepLine &line : lines)
    for (const Step &step : line.steps) {
      last = std::max(last, step.at);
      most = std::max(most, step.value);
    }
  const std::uint64_t ceiling = round_up(most);
  const auto x = [last](std::uint64_t at) {
    return left + plot_width * static_cast<double>(at) / static_cast<double>(last);
  };
  const auto y = [ceiling](std::uint64_t bytes) {
    return bottom - (bottom - top) * static_cast<double>(bytes) / static_cast<double>(ceiling);
  };
  std::string drawn;
  for (const std::uint64_t quarter : {0, 1, 2, 3, 4}) {
    const std::uint64_t bytes = ceiling / 4 * quarter;
    drawn += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", left,
                         width - right, y(bytes), y(bytes));
    drawn += text(left - 8, y(bytes) + 4, "end", human_bytes(Bytes{bytes}));
  }
  for (const std::uint64_t quarter : {0, 1, 2, 3, 4})
    drawn += text(x(last / 4 * quarter), bottom + 16, quarter == 4 ? "end" : "middle",
                  human_time(last / 4 * quarter));
  for (const StepLine &line : lines) {
    std::string path = fmt::format("M{:.1f} {:.1f}", x(0), y(0));
    for (const Step &step : line.steps)
      path += fmt::format("H{:.1f}V{:.1f}", x(step.at), y(step.value));
    drawn += fmt::format(R"(<path class="steps" stroke="{}" d="{}"><title>{}</title></path>)",
                         line.colour, path, escaped(line.name));
  }
  return svg(static_cast<int>(bottom) + 24, "mapped bytes over time", drawn);
}

} // namespace vfio_shim::cli
