// SPDX-License-Identifier: MIT
#include "cli/doctor/trial.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include <fmt/color.h>
#include <fmt/format.h>

namespace vfio_shim::cli::doctor {

using nlohmann::ordered_json;

namespace {

double milliseconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

std::string name_of(Step::Outcome outcome) {
  switch (outcome) {
  case Step::Outcome::ok:
    return "ok";
  case Step::Outcome::failed:
    return "failed";
  case Step::Outcome::skipped:
    return "skipped";
  }
  return {};
}

fmt::text_style style_of(Step::Outcome outcome) {
  switch (outcome) {
  case Step::Outcome::ok:
    return fg(fmt::terminal_color::green);
  case Step::Outcome::failed:
    return fg(fmt::terminal_color::red) | fmt::emphasis::bold;
  case Step::Outcome::skipped:
    return fg(fmt::terminal_color::yellow);
  }
  return {};
}

} // namespace

bool Trial::step(std::string what, const std::function<Result<void>()> &take) {
  const auto since = std::chrono::steady_clock::now();
  const auto done = take();
  steps_.push_back({.what = std::move(what),
                    .outcome = done ? Step::Outcome::ok : Step::Outcome::failed,
                    .took = std::chrono::steady_clock::now() - since,
                    .found = done ? "" : done.error().describe()});
  return done.has_value();
}

bool Trial::step_if(bool possible, std::string what, const std::function<Result<void>()> &take) {
  if (possible)
    return step(std::move(what), take);
  steps_.push_back({.what = std::move(what),
                    .outcome = Step::Outcome::skipped,
                    .took = {},
                    .found = "needs a step that failed"});
  return false;
}

bool Trial::succeeded() const {
  return std::ranges::none_of(
      steps_, [](const Step &step) { return step.outcome == Step::Outcome::failed; });
}

std::string trial_text(const Trial &trial, bool colour) {
  std::size_t width = 0;
  for (const Step &step : trial.steps())
    width = std::max(width, step.what.size());
  std::string text;
  for (const auto &[what, outcome, took, found] : trial.steps()) {
    const std::string label = fmt::format("{:<7}", name_of(outcome));
    const std::string time = outcome == Step::Outcome::skipped
                                 ? std::string{}
                                 : fmt::format("{:.2f} ms", milliseconds(took));
    text += fmt::format("{}  {:<{}}  {:>10}{}{}\n",
                        colour ? fmt::format(style_of(outcome), "{}", label) : label, what, width,
                        time, found.empty() ? "" : "  ", found);
  }
  return text + (trial.succeeded() ? "\nTried: the shim's way works here.\n"
                                   : "\nTried: the shim's way does not work here yet.\n");
}

ordered_json trial_json(const Trial &trial) {
  ordered_json steps = ordered_json::array();
  for (const auto &[what, outcome, took, found] : trial.steps())
    steps.push_back({{"step", what},
                     {"outcome", name_of(outcome)},
                     {"ms", milliseconds(took)},
                     {"found", found.empty() ? ordered_json(nullptr) : ordered_json(found)}});
  return steps;
}

} // namespace vfio_shim::cli::doctor
