// SPDX-License-Identifier: MIT
/// @file
/// How many containers there may be, so that no user can take all of them.
#pragma once

#include "vfio_shim/result.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include <sys/types.h>

namespace vfio_shim::cuse {

/// What the container node grants.
struct ContainerLimits {
  /// Of one user other than root. A virtual machine takes one, or one per device if its guest has
  /// an IOMMU; all machines of a host may belong to one user.
  std::uint32_t per_user = 1024;
  /// Of all users. The last eighth is root's.
  std::uint32_t total = 8192;
};

/// Counts the containers of each user and refuses those beyond the limits. Thread-safe.
///
/// A user is who opened the node. Somebody with subordinate user ids (subuid(5)) counts as several.
class OpenLimits {
  struct Counts;

public:
  /// The right to one container. Given back when it goes, also after the OpenLimits.
  class Place {
  public:
    Place(Place &&other) noexcept = default;
    Place &operator=(Place &&other) = delete;
    Place(const Place &) = delete;
    Place &operator=(const Place &) = delete;
    ~Place();

  private:
    friend class OpenLimits;
    Place(std::shared_ptr<Counts> counts, uid_t user) : counts_(std::move(counts)), user_(user) {}

    std::shared_ptr<Counts> counts_; ///< None: moved from.
    uid_t user_;
  };

  explicit OpenLimits(ContainerLimits limits);

  /// Takes a place for @p user.
  /// @return ENFILE, as open(2) answers when a table that all users share is full.
  Result<Place> take(uid_t user);

private:
  struct Counts {
    std::mutex mutex; ///< Guards what follows.
    std::uint32_t total = 0;
    std::map<uid_t, std::uint32_t> of_user; ///< Of those who have any.
  };

  const ContainerLimits limits_;
  const std::shared_ptr<Counts> counts_;
};

} // namespace vfio_shim::cuse
