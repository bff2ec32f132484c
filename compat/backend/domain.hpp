// SPDX-License-Identifier: MIT
/// @file
/// An IOMMU domain on iommufd: what devices attach to.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace vfio_shim {

/// Owns an HWPT that carries an IOAS's mappings. If the IOMMU can note which pages devices write
/// to, the HWPT is made for it: that cannot be changed later.
class Domain {
public:
  /// Makes a domain for devices like @p devid.
  /// @param iommufd Outlives the domain.
  /// @return EADDRINUSE: something is mapped where the device's IOMMU cannot translate.
  static Result<std::unique_ptr<Domain>> make(const Fd &iommufd, std::uint32_t ioas_id,
                                              std::uint32_t devid);

  /// A domain that another process has made.
  static std::unique_ptr<Domain> adopt(const Fd &iommufd, std::uint32_t id, bool can_track_dirty) {
    return std::unique_ptr<Domain>(new Domain(iommufd, id, can_track_dirty));
  }

  Domain(const Domain &) = delete;
  Domain &operator=(const Domain &) = delete;
  /// The HWPT stays, until the iommufd goes, if a device is still attached to it.
  ~Domain();

  /// The HWPT's object id.
  std::uint32_t id() const { return id_; }

  /// Whether track_dirty() and report_dirty() can be used.
  bool can_track_dirty() const { return can_track_dirty_; }

  /// Starts or stops noting writes. What was noted before is forgotten.
  Result<void> track_dirty(bool on);

  /// Sets the bits of pages that were written to. See Backend::report_dirty().
  Result<void> report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                            std::span<std::uint64_t> bitmap);

private:
  Domain(const Fd &iommufd, std::uint32_t id, bool can_track_dirty)
      : iommufd_(iommufd), id_(id), can_track_dirty_(can_track_dirty) {}

  const Fd &iommufd_;
  std::uint32_t id_;
  bool can_track_dirty_;
};

/// The domains that carry one IOAS's mappings, each of them once.
using Domains = std::vector<std::shared_ptr<Domain>>;

/// Backend::track_dirty(), for an address space that these domains carry.
Result<void> track_dirty(const Domains &domains, bool on);

/// Backend::report_dirty(), for an address space that these domains carry.
Result<void> report_dirty(const Domains &domains, IovaRange range, Bytes page_size,
                          AfterReport after, std::span<std::uint64_t> bitmap);

} // namespace vfio_shim
