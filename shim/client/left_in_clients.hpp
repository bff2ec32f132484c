// SPDX-License-Identifier: MIT
/// @file
/// What stays in clients from one call to the next.
#pragma once

#include "client/client_area.hpp"
#include "client/known_to_kvm.hpp"
#include "client/resident_descriptors.hpp"

#include <functional>

namespace vfio_shim::client {

/// What is in clients that belongs to no open file of ours, or to none any more. Thread-safe.
struct LeftInClients {
  /// @param look_after As AbandonedDescriptors.
  /// @param used Where it is written down and kept; outlives this.
  /// @param look_after_kvm,kvm_files As KnownToKvm.
  LeftInClients(
      std::function<void()> look_after, ResidentBooks used,
      std::function<void()> look_after_kvm = [] {}, NamedStore kvm_files = {})
      : books(used),
        areas(used.book),
        abandoned(std::move(look_after)),
        known_to_kvm(std::move(look_after_kvm), std::move(kvm_files)) {}

  const ResidentBooks books;
  ClientAreas areas;
  AbandonedDescriptors abandoned;
  KnownToKvm known_to_kvm;
};

} // namespace vfio_shim::client
