// SPDX-License-Identifier: MIT
#include "cli/status.hpp"

#include "cli/command_line.hpp"
#include "cli/human.hpp"
#include "cli/status_report.hpp"
#include "observe/ledger_reader.hpp"

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include <fmt/format.h>
#include <fmt/ostream.h>

namespace vfio_shim::cli {

namespace {

using json = nlohmann::ordered_json;
using observe::LedgerReader;

/// A ledger that is there, or must be, and cannot be read.
struct Unreadable {
  std::string prefix;
  Error error;
};

struct Found {
  std::vector<DaemonStatus> daemons;
  std::vector<Unreadable> unreadable;

  bool any_alive() const {
    return std::ranges::any_of(
        daemons, [](const DaemonStatus &daemon) { return daemon.snapshot.daemon.alive; });
  }
};

LedgerReader::Mappings wanted_mappings(const StatusOptions &options) {
  return options.mappings ? LedgerReader::Mappings::listed : LedgerReader::Mappings::counted;
}

Found look(const StatusOptions &options) {
  Found found;
  const auto prefixes = options.prefix.empty() ? LedgerReader::prefixes(options.ledgers)
                                               : std::vector{options.prefix};
  for (const std::string &prefix : prefixes) {
    const auto reader = LedgerReader::open(prefix, options.ledgers);
    if (reader)
      found.daemons.push_back({.snapshot = reader->snapshot(wanted_mappings(options)),
                               .nodes = find_nodes(prefix, options.roots)});
    else if (reader.error().code != ENOENT) // Gone while we looked, or never there.
      found.unreadable.push_back({.prefix = prefix, .error = reader.error()});
  }
  return found;
}

std::string message(const Unreadable &ledger) {
  if (ledger.error.code == EACCES)
    return fmt::format("may not read the ledger of /dev/{}: must be root", ledger.prefix);
  return fmt::format("cannot read the ledger of /dev/{}: {}", ledger.prefix,
                     ledger.error.describe());
}

void print_text(const Found &found, const StatusOptions &options, std::ostream &out,
                std::ostream &err) {
  for (const DaemonStatus &daemon : found.daemons) {
    if (&daemon != found.daemons.data())
      out << '\n';
    out << status_text(daemon, std::chrono::system_clock::now());
  }
  for (const Unreadable &ledger : found.unreadable)
    err << "vfio-shim: " << printable(message(ledger)) << '\n';
  if (!found.daemons.empty() || !found.unreadable.empty())
    return;
  if (options.prefix.empty())
    err << "vfio-shim: no daemon runs: start one with `vfio-shim serve`\n";
  else
    fmt::print(
        err,
        "vfio-shim: no daemon serves /dev/{0}: start one with `vfio-shim serve --prefix {0}`\n",
        printable(options.prefix));
}

void print_json(const Found &found, const StatusOptions &options, std::ostream &out) {
  json daemons = json::array();
  for (const DaemonStatus &daemon : found.daemons)
    daemons.push_back(status_json(daemon, wanted_mappings(options)));
  json unreadable = json::array();
  for (const Unreadable &ledger : found.unreadable)
    unreadable.push_back({{"prefix", ledger.prefix},
                          {"error", errno_name(ledger.error.code)},
                          {"message", message(ledger)}});
  const json all = {{"daemons", std::move(daemons)}, {"unreadable", std::move(unreadable)}};
  // Clients may call themselves anything, and JSON takes UTF-8 only.
  out << all.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

} // namespace

int status(const StatusOptions &options, std::ostream &out, std::ostream &err) {
  const Found found = look(options);
  if (options.json)
    print_json(found, options, out);
  else
    print_text(found, options, out, err);
  return found.any_alive() ? exit_ok : exit_failure;
}

void add_status(CommandLine &line) {
  auto options = std::make_shared<StatusOptions>();
  auto *command = line.app.add_subcommand(
      "status", "Show the containers, groups, devices and mappings that clients have open");
  command->add_option("--prefix", options->prefix,
                      "Directory of the nodes below /dev (default: every daemon's)");
  command->add_flag("--json", options->json, "For programs");
  command->add_flag("--mappings", options->mappings, "List every mapping");
  command->callback([&line, options] {
    line.chosen = [options] { return status(*options, std::cout, std::cerr); };
  });
}

} // namespace vfio_shim::cli
