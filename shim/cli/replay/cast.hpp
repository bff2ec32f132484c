// SPDX-License-Identifier: MIT
/// @file
/// Finding this machine's groups and devices for a recording.
#pragma once

#include "cli/replay/player.hpp"
#include "observe/trace_reader.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <string>

namespace vfio_shim::cli {

/// Who plays the recorded groups and devices.
/// @param device The device to play the only one in the recording; "": everybody plays themselves.
/// @return ENODEV, with a line for people, if one is not there.
Result<Cast> find_cast(const observe::Recording &recording, const std::string &device,
                       const topology::Roots &roots = {});

} // namespace vfio_shim::cli
