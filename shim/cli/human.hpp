// SPDX-License-Identifier: MIT
/// @file
/// Figures and foreign text, for people.
#pragma once

#include "vfio_shim/printable.hpp"
#include "vfio_shim/units.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace vfio_shim::cli {

/// "1 client", "2 clients".
std::string counted(std::uint64_t count, std::string_view thing);

/// "256.5 MiB"; "4 KiB": a fraction only where there is one.
std::string human_bytes(Bytes bytes);

/// "5 s", "3 min", "2 h 5 min", "3 d 4 h".
std::string human_duration(std::chrono::seconds duration);

/// "850 ns", "12.3 us", "4.56 ms", "1.2 s": three digits.
std::string human_latency(std::chrono::nanoseconds latency);

} // namespace vfio_shim::cli
