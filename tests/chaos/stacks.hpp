// SPDX-License-Identifier: MIT
/// @file
/// Who waits for what: the first question when something hangs.
#pragma once

#include <vector>

#include <sys/types.h>

namespace chaos {

/// Prints, for each thread of these processes, its state, its system call and its kernel stack.
void print_stacks(const std::vector<pid_t> &processes);

/// Those in a cgroup.
std::vector<pid_t> processes_in(const char *cgroup);

} // namespace chaos
