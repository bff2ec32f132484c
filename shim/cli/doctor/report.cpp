// SPDX-License-Identifier: MIT
#include "cli/doctor/report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <fmt/color.h>
#include <fmt/format.h>

namespace vfio_shim::cli::doctor {

using nlohmann::ordered_json;

namespace {

fmt::text_style style_of(Outcome outcome) {
  switch (outcome) {
  case Outcome::ok:
    return fg(fmt::terminal_color::green);
  case Outcome::note:
    return fg(fmt::terminal_color::yellow);
  case Outcome::missing:
    return fg(fmt::terminal_color::red) | fmt::emphasis::bold;
  }
  return {};
}

std::string summary(const std::vector<Finding> &findings) {
  const auto missing = std::ranges::count_if(
      findings, [](const Finding &finding) { return finding.outcome == Outcome::missing; });
  if (missing == 0)
    return "Nothing is missing: vfio-shim can serve.";
  if (missing == 1)
    return "1 thing is missing: vfio-shim cannot serve before it is mended.";
  return fmt::format("{} things are missing: vfio-shim cannot serve before they are mended.",
                     missing);
}

} // namespace

bool ready(const std::vector<Finding> &findings) {
  return std::ranges::none_of(
      findings, [](const Finding &finding) { return finding.outcome == Outcome::missing; });
}

std::string report_text(const std::vector<Finding> &findings, bool colour) {
  std::size_t width = 0;
  for (const Finding &finding : findings)
    width = std::max(width, finding.subject.size());
  std::string text;
  for (const auto &[subject, outcome, found, remedy] : findings) {
    const std::string label = fmt::format("{:<7}", outcome_name(outcome));
    text += fmt::format("{}  {:<{}}  {}\n",
                        colour ? fmt::format(style_of(outcome), "{}", label) : label, subject,
                        width, found);
    if (!remedy.empty())
      text += fmt::format("{:<7}  {:<{}}  -> {}\n", "", "", width, remedy);
  }
  return text + '\n' + summary(findings) + '\n';
}

ordered_json report_json(const std::vector<Finding> &findings) {
  ordered_json checks = ordered_json::array();
  for (const auto &[subject, outcome, found, remedy] : findings)
    checks.push_back({{"check", subject},
                      {"outcome", outcome_name(outcome)},
                      {"found", found},
                      {"remedy", remedy.empty() ? ordered_json(nullptr) : ordered_json(remedy)}});
  return {{"ready", ready(findings)}, {"checks", std::move(checks)}};
}

} // namespace vfio_shim::cli::doctor
