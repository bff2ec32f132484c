// SPDX-License-Identifier: MIT
/// @file
/// What `vfio-shim usage` says, for people and for programs.
#pragma once

#include "cli/fleet_usage.hpp"
#include "observe/usage_book.hpp"

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim::cli {

/// What stands between a program and running natively on iommufd, hardest first; a line each.
///
/// Derived from what it has used, and from what is known of programs by their names (QEMU). The
/// first line is always about the program's own code: nothing runs natively that does not speak
/// iommufd.
std::vector<std::string> obstacles(std::string_view program, const observe::ProgramUse &use);

/// The features that the program has used and would not have with `--express`.
std::vector<std::string> lacking_in_express(const observe::ProgramUse &use);

/// The programs of this host.
ProgramsOnHosts programs_here(const observe::UsageBook &book);

/// A paragraph for each program, the one used last first.
std::string usage_text(const ProgramsOnHosts &programs, std::chrono::system_clock::time_point now);

/// The output of `usage --json`.
///
/// The keys are stable: more may come, none will change its meaning. Times are ISO 8601 in UTC.
///
/// @code{.json}
/// {"host": "node7",                               // not if several hosts' are merged
///  "programs": [{
///   "program": "/usr/bin/qemu-system-x86_64",   // or "(others)": those there was no room for
///   "first": "2026-11-20T21:18:01Z", "last": "2026-11-21T01:02:03Z",
///   "features": {                               // those that it used
///     "map_private": {"calls": 12, "failed": 0, "first": "...", "last": "..."}
///   },
///   "obstacles": ["..."],                       // what keeps it from running natively
///   "express_lacks": ["..."],                   // what it would not have with --express
///   "hosts": ["node7", "node8"]                 // only if several hosts' are merged
/// }]}
/// @endcode
///
/// @param host Where the programs run; "": their own hosts are listed.
nlohmann::ordered_json usage_json(const ProgramsOnHosts &programs, const std::string &host);

} // namespace vfio_shim::cli
