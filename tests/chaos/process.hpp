// SPDX-License-Identifier: MIT
/// @file
/// What processes need of the system: signals, limits, ends of children.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <sys/resource.h>
#include <sys/types.h>

namespace chaos {

/// Sets both limits, as root may.
void limit(__rlimit_resource resource, rlim_t limit);

/// Takes SIGALRM, SIGUSR1 and numbered signals, without any effect on the program.
void handle_signals();
/// Ignores what the program after execve(2) would die of.
void ignore_signals();

struct NumberedSignals {
  int received = 0;
  int out_of_order = 0;
};
/// Begins to count at 0.
void expect_numbered_signals();
void send_numbered_signal(pid_t thread, int number);
NumberedSignals numbered_signals();

/// The status of a child, when it has ended.
int wait_for(pid_t child);
/// Whether it ends within @p patience. It can still be waited for.
bool ends_within(pid_t child, std::chrono::milliseconds patience);
/// "exited with 3", "died of signal 5 (core dumped)".
std::string describe_end(int status);

/// The number behind @p label in a file like /proc/self/status.
std::optional<std::uint64_t> number_after(const std::string &contents, const std::string &label);

} // namespace chaos
