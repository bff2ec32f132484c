// SPDX-License-Identifier: MIT
/// @file
/// Files of devices that are lent to programs, and must come back.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace vfio_shim::client {

/// Files of a group's devices that are bound to nothing: what KVM is given in the group's place.
using DeviceFiles = std::vector<Fd>;

/// Opens such files, and watches whether they come back.
///
/// For a moment such a file is a descriptor of the program's. A copy that is taken then (by another
/// thread; by fork()) outlives the program's right to the group: who has it can bind the device to
/// an iommufd of his own whenever nobody else has it open, and so get at what its next user has
/// left there. So each file is opened on a node of its own, in a file system that nobody else sees,
/// of which the kernel tells (inotify) when the last copy is closed. For as long as one is missing
/// after KVM has returned its own, nobody shall get the group: as it is with the kernel's groups,
/// whose file is what KVM and others keep. Who serves the group refuses it then (is_missing()).
/// Anybody else has the group's node kept open here.
///
/// Thread-safe. Must not end before the process.
class LentFiles {
public:
  /// Opens the devices of @p group. They are to be returned when nobody uses the result any more.
  /// @return ENFILE, ENOMEM: they cannot be watched, so they are not lent.
  /// @param borrower Who gets them, for the log.
  /// @param group_node Names the group's node, if that is to be kept open.
  Result<std::shared_ptr<const DeviceFiles>>
  lend(const topology::Group &group, const std::string &borrower,
       const std::shared_ptr<const Fd> &group_node = nullptr);

  /// Goes on with what a process that has died has lent.
  /// @param files All of devices of @p group.
  std::shared_ptr<const DeviceFiles> adopt(DeviceFiles files, GroupId group,
                                           const std::string &borrower);

  /// Looks what has come back. @return Whether anything is to be returned still: then call again.
  bool look_after();

  /// Whether anything is to be returned that nobody uses any more.
  bool awaits_any();

  /// Whether somebody has kept a file of a device of the group's.
  bool is_missing(GroupId group);

private:
  using Clock = std::chrono::steady_clock;

  /// A file that somebody has open.
  struct Lent {
    std::weak_ptr<const DeviceFiles> in_use;
    GroupId group;
    std::shared_ptr<const Fd> group_node; ///< Names the node, does not open it.
    std::string what;
    std::optional<Clock::time_point> due;
    bool missed = false;
  };

  struct Watched {
    Fd file;
    int watch;
  };

  Result<void> prepare();
  Result<Watched> open_watched(const Fd &original) const;
  Result<int> watch(const Fd &file) const;
  void note_lent(int watch, Lent lent);
  void note_returned();
  static void keep_group(const std::shared_ptr<Lent> &lent);

  std::mutex mutex_; ///< Guards what follows.
  // Made when first needed: root has few instances of inotify, and strangers have supervisors.
  Fd directory_; ///< Of the file system.
  Fd events_;
  std::map<int, std::shared_ptr<Lent>> lent_; ///< By the watches on their nodes.
};

} // namespace vfio_shim::client
