// SPDX-License-Identifier: MIT
/// @file
/// Many clients at once.
#pragma once

#include <vector>

#include "measurements.h"
#include "workloads.h"

namespace bench {

/// Has so many clients map and unmap 4 KiB of private memory of their own for a second, all at
/// once, on each provider of `plan` in turns. Each is a thread; each device has a process and a
/// container of its own, and the clients are spread over them.
/// @return Calls per second, all clients together, and the slowest client's calls as a part of the
///         mean (1: all get the same).
/// Throws std::system_error when a call fails.
Measurements run_crowds(const Plan &plan, const std::vector<legacy::PciDevice> &devices,
                        const std::vector<unsigned> &crowds);

} // namespace bench
