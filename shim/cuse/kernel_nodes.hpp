// SPDX-License-Identifier: MIT
/// @file
/// The kernel's own legacy nodes, where ours take their place for the whole host.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include <sys/types.h>

namespace vfio_shim::cuse {

/// Puts the kernel's nodes aside, from /dev/vfio to /dev/vfio-kernel, and back.
///
/// They are renamed in devtmpfs itself, which is one file system however often it is mounted: so
/// every mount namespace sees it, without any propagation. Nothing is lost: a node that is put back
/// is the very one that the kernel made, with the owner and mode that udev gave it, and the kernel
/// will remove it. Open files are not touched. Thread-safe.
class KernelNodes {
public:
  explicit KernelNodes(topology::Roots roots = {});

  /// Whether the nodes can be put aside for everybody.
  /// @return ENOTSUP: /dev/vfio is not in devtmpfs itself; the error says what it is in.
  Result<void> check() const;

  /// Makes room for a node of ours.
  /// @param name "vfio" or a group's number.
  Result<void> put_aside(const std::string &name) const;

  /// Puts a node back that is aside, if the kernel has it still. See put_aside().
  Result<void> put_back(const std::string &name) const;

  /// Whether the kernel has a container node of its own, or makes one as soon as it is opened.
  bool has_container() const;

  /// Whether @p file is open on the kernel's container node.
  bool is_container(const Fd &file) const;

  /// Removes what is aside under that name if the kernel has no such node any more.
  /// @return Whether that is so. If not, it may be so soon: a group goes after its last device.
  bool forget_if_gone(const std::string &name) const;

  /// Whether any are aside.
  bool are_aside() const;

  /// Puts all back that are aside. A node of ours that is there still, or the remains of one, gives
  /// way.
  /// @return The names, and in the end nothing is aside. The first error; the others are put back
  ///         all the same.
  Result<std::vector<std::string>> put_back() const;

private:
  dev_t number_of(const std::string &name) const;
  Result<void> move_aside(const std::string &name) const;
  Result<void> return_one(const std::string &name, dev_t number) const;

  topology::Roots roots_;
  std::filesystem::path place_; ///< Where programs look for them.
  std::filesystem::path aside_;
  mutable std::mutex mutex_; ///< So that what is looked up holds until it is acted upon.
};

/// Whether the kernel's container that @p container is open on has groups.
bool has_groups(const Fd &container);

} // namespace vfio_shim::cuse
