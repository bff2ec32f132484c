// SPDX-License-Identifier: MIT
/// @file
/// How much each container of a recording has mapped, call by call.
#pragma once

#include "observe/trace_layout.hpp"

#include "vfio_shim/units.hpp"

#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace vfio_shim::observe {

/// Follows a recording's calls in the order of their sequence.
class MappedBytes {
public:
  struct Change {
    std::uint32_t container = 0; ///< The number of its file.
    Bytes bytes;                 ///< Mapped from now on.
  };

  /// What @p record changes: nothing, or one container.
  std::vector<Change> follow(const trace::Record &record);

private:
  struct Container {
    Bytes mapped;
    std::set<std::uint32_t> groups; ///< The numbers of their files.
  };

  std::vector<Change> set(std::uint32_t container, Bytes bytes);
  /// The last group to leave takes the mappings with it.
  std::vector<Change> leave(std::uint32_t group);

  std::map<std::uint32_t, Container> containers_;
};

} // namespace vfio_shim::observe
