// SPDX-License-Identifier: MIT
/// @file
/// A device's cdev, and its place in an iommufd.
#pragma once

#include "backend/device_memory.hpp"

#include "vfio_shim/backend.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/file_store.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <cstdint>
#include <memory>

namespace vfio_shim {

/// VFIO_DEVICE_BIND_IOMMUFD, with the kernel's errno. @return The device's object id in the
/// iommufd.
Result<std::uint32_t> bind_to(const Fd &iommufd, const Fd &cdev);

/// A device of a claimed group: not open, or bound to the iommufd with its file held here, or bound
/// with its file given away. A file that was given away is closed without our being told.
class BoundDevice {
public:
  explicit BoundDevice(topology::Device device) : device_(std::move(device)) {}

  /// One that another process has bound. Whether it still is, the kernel is asked before it
  /// matters.
  /// @param device As it is there now.
  /// @param memory Where its BARs are made known; may be none.
  static BoundDevice adopt(topology::Device device, const BackendState::Device &state,
                           FileStore &store, DeviceMemory *memory);
  BackendState::Device describe() const;

  const topology::Device &device() const { return device_; }

  /// Opens the cdev of @p device, which is this one as it is there now, and binds it.
  /// @param store Keeps the file until it is given away; outlives this.
  /// @return EPERM: another process has it bound. ENODEV: its cdev is another device's by now. The
  ///         errno of open().
  Result<void> bind(const topology::Device &device, const Fd &iommufd, FileStore &store);

  /// Whether it is bound, as far as we know.
  bool bound() const { return bound_; }
  /// The same, asking the kernel.
  bool still_bound(const Fd &iommufd);
  /// Somebody has closed its file.
  void forget();

  /// Whether its file is held here.
  bool held() const { return static_cast<bool>(file_); }
  Result<Fd> copy_of_file() const;
  /// Makes its BARs known to @p memory, until its file is closed. The file must be held.
  /// @return As DeviceMemory::add().
  Result<void> export_bars(DeviceMemory &memory, FileStore &store);
  /// Lets go of the file, which somebody else holds by now.
  void give_away() { file_.reset(); }

  /// Attaches it to an IOAS or a domain. Its file must be held.
  Result<void> attach(std::uint32_t page_table);
  void detach();
  bool attached() const { return attached_; }

  /// Its object in the iommufd. Meaningful while it is bound.
  std::uint32_t devid() const { return devid_; }

private:
  topology::Device device_;
  std::uint32_t devid_ = 0;
  bool bound_ = false;
  bool attached_ = false;
  KeptFile file_;
  std::shared_ptr<const ExportedBars> bars_; ///< Of the file, once it was to be given away.
};

} // namespace vfio_shim
