// SPDX-License-Identifier: MIT
/// @file
/// The command line: one subcommand per file.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// Exit statuses that every subcommand keeps to.
inline constexpr int exit_ok = 0;
inline constexpr int exit_failure = 1; ///< It could not be done; one line on stderr says why.
inline constexpr int exit_usage = 2;   ///< The command line itself is wrong.

/// The parser, and what the given subcommand does.
struct CommandLine {
  CLI::App app;
  /// What follows `--`, untouched: CLI11 would take "[ -e x ]" for a list.
  std::vector<std::string> after_dashes;
  std::function<int()> chosen; ///< Set by the subcommand that was given; returns the exit status.
};

void add_serve(CommandLine &line);
void add_release(CommandLine &line);
void add_run(CommandLine &line);
void add_status(CommandLine &line);
void add_upgrade(CommandLine &line);
void add_express(CommandLine &line);
void add_doctor(CommandLine &line);
void add_trace(CommandLine &line);
void add_top(CommandLine &line);
void add_usage(CommandLine &line);
void add_replay(CommandLine &line);
void add_compare(CommandLine &line);
void add_info(CommandLine &line);
void add_cdi(CommandLine &line);
void add_seccomp(CommandLine &line);
void add_agent(CommandLine &line);

} // namespace vfio_shim::cli
