// SPDX-License-Identifier: MIT
/// @file
/// The process that has one client after another at a place, and judges their ends.
#pragma once

#include <string>

#include "hostiles.hpp"
#include "life.hpp"

namespace chaos {

/// The cgroup of the clients at a place, where they can be frozen and killed.
std::string cgroup_of_place(int place);

/// Starts a process that has clients at this place while the round is running; @p hostile ones if
/// there is one. It exits with 0 if none of them has complained, or ended otherwise than it meant
/// to.
pid_t start_host(const Setting &setting, const Hostile *hostile);

} // namespace chaos
