// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "observe/ledger_reader.hpp"

#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli {

namespace {

using observe::LedgerReader;
using observe::Snapshot;

struct UpgradeOptions {
  std::string prefix;
  bool check = false;
};

int complain(const std::string &what) {
  spdlog::error("{}", what);
  return exit_failure;
}

Result<Snapshot::Daemon> daemon_of(const std::string &prefix) {
  const auto reader = LedgerReader::open(prefix);
  if (!reader)
    return fail(reader.error().code, reader.error().code == ENOENT
                                         ? fmt::format("no daemon serves /dev/{}", prefix)
                                     : reader.error().code == EPROTO ? reader.error().where
                                                                     : reader.error().describe());
  return reader->daemon();
}

/// Whether this program can go on with what the running one has written down.
int check(const std::string &prefix) {
  const auto daemon = daemon_of(prefix);
  if (!daemon)
    return complain(
        fmt::format("no upgrade, the daemon that runs goes on: {}", daemon.error().where));
  return exit_ok;
}

int upgrade(const UpgradeOptions &options) {
  if (options.check)
    return check(options.prefix);
  const auto before = daemon_of(options.prefix);
  if (!before)
    return complain(before.error().where);
  if (!before->alive || before->keeper.value == 0)
    return complain(fmt::format("no daemon serves /dev/{}", options.prefix));
  if (::kill(before->keeper.value, SIGHUP) != 0)
    return complain(fmt::format("cannot tell the daemon (pid {}): {}", before->keeper.value,
                                errno_name(errno)));
  constexpr std::chrono::seconds patience{20};
  constexpr std::chrono::milliseconds glance{10};
  const auto until = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(glance);
    const auto now = daemon_of(options.prefix);
    if (!now || now->replaced == before->replaced || now->last_pause.count() == 0)
      continue;
    std::cout << fmt::format("upgraded: clients had to wait {:.0f} ms\n",
                             std::chrono::duration<double, std::milli>(now->last_pause).count());
    return exit_ok;
  }
  return complain("the daemon goes on as it is: its log says why");
}

} // namespace

void add_upgrade(CommandLine &line) {
  auto options = std::make_shared<UpgradeOptions>();
  options->prefix = daemon::default_prefix();
  auto *command = line.app.add_subcommand(
      "upgrade", "Have a running daemon go on as the program that is installed now; clients notice "
                 "a pause");
  command->add_option("--prefix", options->prefix, "Directory of the nodes below /dev")
      ->capture_default_str();
  command->add_flag("--check", options->check,
                    "Only look whether this program can go on with what the daemon has written "
                    "down");
  command->callback([&line, options] { line.chosen = [options] { return upgrade(*options); }; });
}

} // namespace vfio_shim::cli
