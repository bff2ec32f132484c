// SPDX-License-Identifier: MIT
/// @file
/// What a process calls itself.
#pragma once

#include "vfio_shim/units.hpp"

#include <filesystem>
#include <string>

namespace vfio_shim {

/// The name of the command that the process runs, made printable: a process may call itself
/// anything, escape sequences and line ends included. "" if there is no such process.
std::string command_name(Pid process, const std::filesystem::path &proc = "/proc");

} // namespace vfio_shim
