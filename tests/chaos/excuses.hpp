// SPDX-License-Identifier: MIT
/// @file
/// What entitles the daemon to refuse an innocent client's call: one table.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string_view>

namespace chaos {

/// A disturbance that an innocent client may notice by an errno.
enum class Excuse : int { traced, device_taken, few_descriptors, few_threads, little_memory };
inline constexpr std::size_t excuse_count = 5;

/// Calls that are excused alike.
enum class CallKind : int {
  open,
  set_up,
  get_device,
  map_private,
  map_shared,
  map_device,
  unmap,
  ask
};

/// Whether a call may fail with @p error for this reason.
bool excuses(Excuse excuse, CallKind call, int error);

std::string_view to_string(Excuse excuse);

} // namespace chaos
