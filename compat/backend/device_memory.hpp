// SPDX-License-Identifier: MIT
/// @file
/// The memory (BARs) of devices that clients have open, for DMA from other devices.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/file_store.hpp"
#include "vfio_shim/result.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include <sys/types.h>

namespace vfio_shim {

/// What a file is, whoever opened it: what stat() and `/proc/<pid>/maps` both tell.
struct FileIdentity {
  dev_t filesystem = 0;
  ino_t inode = 0;

  friend bool operator==(const FileIdentity &, const FileIdentity &) = default;
};

/// The BARs of one open, bound cdev, as dma-bufs.
///
/// They do not keep the device open. The kernel revokes what is mapped of them, for good, when the
/// device's memory decoding is turned off and when it is reset; afterwards they can be mapped anew,
/// until the device is closed. Source: drivers/vfio/pci/vfio_pci_dmabuf.c.
class ExportedBars {
public:
  /// Exports what can be exported. @return ENOMEM, EMFILE: there was no room for one that can be.
  /// @param store Keeps the dma-bufs; outlives this.
  static Result<std::shared_ptr<const ExportedBars>> of(const Fd &cdev, FileStore &store);
  /// Those that another process has exported.
  static std::shared_ptr<const ExportedBars> adopt(const BackendState::Device &state,
                                                   FileStore &store);
  void describe(BackendState::Device &state) const;

  const FileIdentity &file() const { return file_; }

  /// A dma-buf of all of BAR @p index.
  /// @return EOPNOTSUPP: the kernel exports none. ENODEV: there is no such BAR, or it has no pages.
  Result<Fd> bar(std::uint32_t index) const;

private:
  static constexpr std::uint32_t bar_count = BackendState::Device::bar_count;

  explicit ExportedBars(const FileIdentity &file) : file_(file) {}

  FileIdentity file_;
  std::array<Result<KeptFile>, bar_count> bars_;
};

/// All devices whose memory may be mapped, across containers. Thread-safe.
class DeviceMemory {
public:
  /// @param report_unsupported Called once, when a client first wants what this kernel cannot do.
  explicit DeviceMemory(std::function<void(const Error &)> report_unsupported = {});

  /// Exports the BARs of @p cdev, which is open and bound. They can be found for as long as the
  /// caller keeps what it is given. @return As ExportedBars::of().
  Result<std::shared_ptr<const ExportedBars>> add(const Fd &cdev, FileStore &store);
  /// The same with those that another process has exported.
  std::shared_ptr<const ExportedBars> adopt(const BackendState::Device &state, FileStore &store);

  /// A dma-buf of BAR @p index of the device whose cdev is @p file. See ExportedBars::bar().
  /// @return ENODEV also for a file that is no cdev known here.
  Result<Fd> find(const FileIdentity &file, std::uint32_t index);

private:
  void note(const std::shared_ptr<const ExportedBars> &bars);

  std::function<void(const Error &)> report_unsupported_;
  std::mutex mutex_; ///< Guards everything below.
  bool reported_ = false;
  std::vector<std::weak_ptr<const ExportedBars>> exported_; ///< Oldest first.
};

} // namespace vfio_shim
