// SPDX-License-Identifier: MIT
/// @file
/// Groups that are made known to KVM.
#pragma once

#include "client/client_area.hpp"
#include "client/lent_files.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "supervise/trap.hpp"

namespace vfio_shim::supervise {

/// Registers devices with KVM in the place of their groups.
///
/// KVM wants to know whether a group's DMA honours the caches, which it asks of any VFIO file. It
/// gets a file of each of the group's devices that is opened for it and bound to nothing: so what
/// KVM keeps does not keep a device open that its client has closed. (It keeps a device from being
/// unbound from its driver, until the group is taken from KVM or the machine ends.) The same files
/// must be named to take them away, so they are kept here, too. Thread-safe.
class KvmRegistrations {
public:
  /// Serves KVM_SET_DEVICE_ATTR, in the client's own thread. To be called by a thread that ends
  /// afterwards (client::BorrowedThread says why).
  /// @return Whether the call was answered. If not, it is not about a group of ours.
  bool serve(const Listener &listener, const TrappedCall &call, client::ClientAreas &areas);

  /// Forgets what KVM has forgotten, because the client has closed its device of KVM, and looks
  /// whether its files have come back.
  /// @return Whether there is more: then call again.
  bool prune();

private:
  /// Files of a group's devices, for one device of KVM.
  struct Registration {
    Fd process; ///< A pidfd.
    std::shared_ptr<const client::DeviceFiles> files;
  };
  /// A process, its descriptor of KVM's device, a group.
  using Key = std::tuple<Pid, ClientFd, GroupId>;

  /// Those that are registered, or new ones.
  Result<std::shared_ptr<const client::DeviceFiles>> files_for(const Key &key, const Fd &group_file,
                                                               const std::string &caller);
  /// Remembers, or with a registration without files forgets.
  void keep(const Key &key, Registration registration);

  client::LentFiles lent_;
  std::mutex mutex_; ///< Guards what follows.
  std::map<Key, Registration> registrations_;
};

} // namespace vfio_shim::supervise
