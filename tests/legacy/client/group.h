// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "container.h"
#include "device.h"
#include "fd.h"
#include "provider.h"

namespace legacy {

/// A legacy VFIO group: one open file of a group node.
class Group {
public:
  /// Opens the group's node. Throws std::system_error.
  Group(const Provider &provider, GroupId id);

  /// Opens the group's node and closes it at once: succeeds, or the errno of open().
  static Answer try_open(const Provider &provider, GroupId id);

  const Fd &fd() const { return fd_; }
  void close() { fd_.close(); }

  /// VFIO_GROUP_GET_STATUS: answers the flags.
  Answer status() const;
  Answer set_container(const Container &container) const;
  Answer set_container(int fd) const;
  Answer unset_container() const;

  /// VFIO_GROUP_GET_DEVICE_FD. Throws std::system_error.
  Device device(const std::string &name) const;
  /// VFIO_GROUP_GET_DEVICE_FD, closing at once what it gives: succeeds, or its errno.
  Answer try_device(const std::string &name) const;

private:
  Fd fd_;
};

} // namespace legacy
