// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cli/screen.hpp"
#include "cli/top_report.hpp"

#include <chrono>
#include <cmath>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

namespace vfio_shim::cli {

namespace {

using namespace std::chrono_literals;
using observe::LedgerReader;

struct TopOptions {
  std::string prefix;
  double interval = 1;
  bool once = false;
};

/// The daemons that are watched, each with what it said in the last seconds.
class Watch {
public:
  explicit Watch(std::string prefix) : prefix_(std::move(prefix)) {}

  /// Looks at every daemon that is alive now. @return How many there are.
  std::size_t look() {
    std::map<std::string, History> seen;
    for (const std::string &prefix :
         prefix_.empty() ? LedgerReader::prefixes() : std::vector{prefix_}) {
      const auto reader = LedgerReader::open(prefix);
      if (!reader && reader.error().code == EACCES)
        hidden_ = true;
      if (!reader || !reader->daemon().alive)
        continue;
      Look now{.at = std::chrono::steady_clock::now(),
               .snapshot = reader->snapshot(),
               .kinds = reader->statistics()};
      History history = std::move(histories_[prefix]);
      if (!history.empty() && history.back().snapshot.daemon.pid != now.snapshot.daemon.pid)
        history.clear(); // Another daemon, which counts from 0.
      history.push_back(std::move(now));
      while (history.size() > 2 && history.back().at - history[1].at >= window)
        history.pop_front();
      seen.emplace(prefix, std::move(history));
    }
    histories_ = std::move(seen);
    return histories_.size();
  }

  /// @param live Of the last seconds, rather than since the daemons' start.
  std::string text(bool live) const {
    std::string text;
    for (const auto &[prefix, history] : histories_) {
      const Look *before = live && history.size() > 1 ? &history.front() : nullptr;
      text += (text.empty() ? "" : "\n") +
              top_text(history.back(), before, std::chrono::system_clock::now());
    }
    return text;
  }

  /// Why there is nothing to see.
  std::string excuse() const {
    if (hidden_)
      return "may not read what the daemon says: must be root";
    return prefix_.empty() ? "no daemon runs: start one with `vfio-shim serve`"
                           : fmt::format("no daemon serves /dev/{}", prefix_);
  }

private:
  using History = std::deque<Look>;
  /// What "now" means: long enough for a quantile to mean something.
  static constexpr auto window = 10s;

  std::string prefix_;
  bool hidden_ = false;
  std::map<std::string, History> histories_;
};

int show_once(Watch &watch) {
  if (watch.look() == 0) {
    std::cerr << "vfio-shim: " << watch.excuse() << '\n';
    return exit_failure;
  }
  std::cout << watch.text(false);
  return exit_ok;
}

int show_until_told(Watch &watch, std::chrono::milliseconds interval) {
  const auto screen = Screen::open();
  if (!screen) {
    std::cerr << "vfio-shim: this terminal (TERM) is not known: use --once\n";
    return exit_failure;
  }
  do {
    const bool any = watch.look() != 0;
    screen->show(any ? watch.text(true) : watch.excuse() + '\n',
                 "q: quit   arrows: scroll   latencies and rates: of the last 10 s");
  } while (screen->wait(interval) != Screen::Wish::quit);
  return exit_ok;
}

int top(const TopOptions &options) {
  Watch watch(options.prefix);
  if (options.once || ::isatty(STDOUT_FILENO) == 0)
    return show_once(watch);
  return show_until_told(watch, std::chrono::milliseconds(std::lround(options.interval * 1000)));
}

} // namespace

void add_top(CommandLine &line) {
  auto options = std::make_shared<TopOptions>();
  auto *command =
      line.app.add_subcommand("top", "Watch calls, latencies, errors, clients and mappings, live");
  command->add_option("--prefix", options->prefix,
                      "Directory of the nodes below /dev (default: every daemon's)");
  command->add_option("--interval", options->interval, "Seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command->add_flag("--once", options->once,
                    "Print it once, since the daemon's start; so it does without a terminal");
  command->callback([&line, options] { line.chosen = [options] { return top(*options); }; });
}

} // namespace vfio_shim::cli
