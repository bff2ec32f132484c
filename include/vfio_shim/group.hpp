// SPDX-License-Identifier: MIT
/// @file
/// A group: what the open file of `/dev/vfio/<N>` is.
#pragma once

#include "vfio_shim/client.hpp"
#include "vfio_shim/container.hpp"
#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim {

/// An opened IOMMU group, by the legacy API's rules.
///
/// The kernel opens a group once; keeping that rule is the owner's part. Thread-safe.
class Group {
public:
  /// Opens the group. @return ENOMEM: the ledger has no room for it.
  /// @param file What the ledger is to call it; see Ledger::next_file().
  static Result<std::shared_ptr<Group>> open(GroupId id, topology::Roots roots, Ledger *ledger,
                                             FileNumber file, Pid client);

  /// Takes over a group of a process that has died.
  /// @param container The one it is in, taken over before; or nullptr.
  static std::shared_ptr<Group> adopt(const GroupState &state, topology::Roots roots,
                                      Ledger *ledger, std::shared_ptr<Container> container);

  Group(GroupId id, topology::Roots roots, Ledger *ledger, FileNumber file, Pid client);
  Group(const Group &) = delete;
  Group &operator=(const Group &) = delete;
  /// Leaves the container. Waits for calls on it, if the group has not left before.
  ~Group();

  GroupId id() const { return id_; }

  /// Its record in the ledger, while it has not ended.
  Ledger::Record record() const { return record_; }

  /// Serves an ioctl on the group.
  /// @param argument The ioctl's third argument, as the client gave it.
  /// @return The ioctl's result; ENOTTY for an unknown one. Otherwise what the kernel answers:
  ///         drivers/vfio/group.c.
  Result<long> call(Client &client, unsigned int command, std::uint64_t argument);

  /// "VFIO_..." for an ioctl that call() knows, "" for any other.
  static std::string_view call_name(unsigned int command);

  /// As Container::settle(), for a call on the group.
  Outcome settle(const Intention &intention);

  /// Whether a client still holds a device of the group open. While it does, the kernel keeps the
  /// group open too, even if the group's own file was closed. Waits for calls on the container.
  bool device_open();

  /// The group's own file is closed: it leaves its container, but not before its devices are
  /// closed. To be called again until it has left. Waits for nobody.
  Departure try_leave_when_unused();

  /// Leaves the container, whatever is still open, and is no more. To be called again until it has
  /// left. Waits for nobody. @return `left` or `busy`.
  Departure try_close();

  /// Devices have come or gone: lets those go that nobody has open and that are to be unbound from
  /// their driver. Waits for nobody.
  /// @return False if a call on the group is being served: to be called again then.
  bool try_follow_topology();

private:
  friend struct GroupCalls; // The handlers behind call(), in compat/type1/.

  /// A process that was given a device's file, to find the file again for a second
  /// VFIO_GROUP_GET_DEVICE_FD.
  struct Holder {
    Fd process; ///< A pidfd.
    Pid pid;
    ClientFd number;
  };

  /// A device that is open at the client.
  struct GivenDevice {
    std::string name;
    Ledger::Record record = 0;
    std::vector<Holder> holders; ///< The latest few.
  };

  Group(const GroupState &state, topology::Roots roots, Ledger *ledger);

  void note_closed();
  void leave_container();
  /// Leaves the container unless a device is open. @return Whether the group is in none now.
  bool leave_if_unused();
  /// It has left.
  void forget_container();
  /// Forgets the devices that the client has closed. @return Whether it has any open still.
  bool any_device_open();
  void forget_all_devices_but(const std::vector<std::string> &open);

  const GroupId id_;
  const topology::Roots roots_;
  Ledger silent_ledger_;
  Ledger &ledger_;
  Ledger::Record record_; ///< 0 once it is given up.
  std::mutex end_mutex_;  ///< Keeps those who end the group from each other's record_. Taken last.
  std::atomic<bool> closed_ = false; ///< Its file is closed, or it was unplugged: it joins no more.
  std::mutex mutex_;                 ///< Guards everything below. Taken before the container's.
  std::shared_ptr<Container> container_;
  std::shared_ptr<Membership> membership_; ///< In container_.
  std::vector<GivenDevice> given_;
};

} // namespace vfio_shim
