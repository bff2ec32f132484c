// SPDX-License-Identifier: MIT
/// @file
/// Open files by their names, and how they get from one program to the next.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <map>
#include <string>

namespace vfio_shim::keeper {

/// Files that outlive those who opened them.
using KeptFiles = std::map<std::string, Fd>;

/// What the program before this one has kept and passed on by leave_to_next_program(), or a service
/// manager (sd_listen_fds(3)). Whoever asks a second time gets nothing.
KeptFiles files_of_last_program();

/// Has an exec() keep @p files. The program that is started then finds them.
/// @return The errno of what it takes.
Result<void> leave_to_next_program(const KeptFiles &files);

/// Undoes that, if there was no exec().
void keep_from_next_program(const KeptFiles &files);

} // namespace vfio_shim::keeper
