// SPDX-License-Identifier: MIT
/// @file
/// This very program, started again.
#pragma once

#include "vfio_shim/result.hpp"

#include <string>
#include <vector>

namespace vfio_shim::cli {

/// The path of the running program.
std::string own_program();

/// What this process was started with: the program's path, and its arguments.
std::vector<std::string> own_command_line();

/// Becomes this program with other arguments. Returns only if that fails.
Error become_own_program(const std::vector<std::string> &arguments);

/// Runs this program with @p arguments and waits for it; what it prints goes to stderr, so that
/// stdout stays the caller's.
/// @return Its exit status; 128 and the signal's number if one ended it.
Result<int> run_own_program(const std::vector<std::string> &arguments);
/// The same with another program.
Result<int> run_program(const std::string &program, const std::vector<std::string> &arguments);

} // namespace vfio_shim::cli
