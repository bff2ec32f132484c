// SPDX-License-Identifier: MIT
/// @file
/// Devices of clients that KVM has been told of.
#pragma once

#include "client/lent_files.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim::client {

/// Keeps files by their names for the process that comes after this one.
struct NamedStore {
  std::function<Result<void>(const std::string &name, const Fd &file)> keep =
      [](const std::string & /*name*/, const Fd & /*file*/) { return Result<void>{}; };
  std::function<void(const std::string &name)> drop = [](const std::string & /*name*/) {};
};

/// The files by which KVM knows clients' devices.
///
/// KVM wants to know whether a device's DMA honours the caches, which it asks of any VFIO file. It
/// gets one that is opened for it and bound to nothing: so what KVM keeps does not keep a device
/// open that its client has closed. But it keeps the device from being unbound from its driver,
/// until KVM is told to forget it, or closes it because the machine ends. The same file must be
/// named to KVM again for that, so it is kept here, too, for as long as it can be. Thread-safe.
class KnownToKvm {
public:
  /// @param look_after Has look_after() called until it says that there is no more.
  explicit KnownToKvm(std::function<void()> look_after, NamedStore store = {})
      : look_after_(std::move(look_after)), store_(std::move(store)) {}

  /// Whose machine it is that shall know the device.
  struct Owner {
    Pid pid;
    const Fd &process; ///< A pidfd.
    std::string name;  ///< For the log.
  };

  /// A file of the device: the one by which the owner's KVM knows it already, or a new one.
  Result<std::shared_ptr<const DeviceFiles>> file_of(const Owner &owner, GroupId group,
                                                     const topology::Device &device);

  /// A device that a process's KVM knows.
  struct Known {
    GroupId group;
    std::string device;
    std::shared_ptr<const DeviceFiles> file;
  };
  /// Those of the process that it does not use any more: of @p group, and of groups that it has
  /// left.
  std::vector<Known> unused_of(Pid pid, GroupId group);

  /// KVM has been told to forget it, or does not know it.
  void forget(Pid pid, const Known &known);

  /// The group has left its container. What KVM knows of it is of no use any more.
  void abandon(GroupId group);

  /// Closes what KVM has forgotten because its machine has ended, and looks whether what was lent
  /// has come back. Waits for nobody. @return Whether there is more to be looked after.
  bool look_after();

  /// Whether a process has kept a file of the group's that it was to have for a moment: until it is
  /// closed, nobody else may have the group.
  bool withholds(GroupId group) { return lent_.is_missing(group); }

  /// What the names of kept files begin with.
  static constexpr std::string_view kept_name = "kvm.";
  /// Takes over what a worker that has died has kept.
  void adopt(const std::string &name, Fd file);

private:
  using Clock = std::chrono::steady_clock;

  struct Entry {
    Fd process; ///< A pidfd.
    Pid pid;
    Known known;
    std::string kept_as; ///< "": it is not kept.
    bool abandoned = false;
  };

  void remove(std::list<Entry>::iterator entry);

  const std::function<void()> look_after_;
  const NamedStore store_;
  LentFiles lent_;
  std::mutex mutex_; ///< Guards what follows.
  std::list<Entry> entries_;
  std::uint64_t last_name_ = 0;
  Clock::time_point last_look_{}; ///< At processes' descriptors.
};

} // namespace vfio_shim::client
