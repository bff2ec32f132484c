// SPDX-License-Identifier: MIT
/// @file
/// What stays in clients from one call to the next.
#pragma once

#include "client/client_area.hpp"
#include "client/resident_descriptors.hpp"

#include <functional>

namespace vfio_shim::client {

/// What is in clients that belongs to no open file of ours, or to none any more. Thread-safe.
struct LeftInClients {
  /// @param look_after As AbandonedDescriptors.
  /// @param used Where it is written down and kept; outlives this.
  LeftInClients(std::function<void()> look_after, ResidentBooks used)
      : books(used), areas(used.book), abandoned(std::move(look_after)) {}

  const ResidentBooks books;
  ClientAreas areas;
  AbandonedDescriptors abandoned;
};

} // namespace vfio_shim::client
