/// @file
/// A group node: `/dev/vfio/<N>`.
#pragma once

#include "client/calling_thread.hpp"
#include "cuse/janitor.hpp"
#include "cuse/node.hpp"
#include "observe/observer.hpp"

#include "vfio_shim/group.hpp"

#include <memory>
#include <mutex>

namespace vfio_shim::cuse {

/// Opens one IOMMU group, to one client at a time.
class GroupNode final : public Node {
public:
  /// @param find_container Tells the container behind an open file.
  /// @param janitor Told of groups whose file is closed while a device of theirs is open.
  static Result<std::shared_ptr<GroupNode>>
  create(WorkerPool &pool, const std::string &name, const NodePermissions &permissions, GroupId id,
         Ledger *ledger, Janitor &janitor, client::AbandonedDescriptors &abandoned,
         client::ContainerFinder find_container, observe::Observer &observer);

  /// Whether a client has the node or a device of the group open.
  bool in_use();

  /// Has the group let go of devices that are to be unbound from their driver.
  /// @return Whether that must be tried again: a call on the group is being served.
  bool follow_topology();

  /// Ends the group: it leaves its container, whatever is open. May wait for a call on it.
  void close_group();

  /// Ends a group whose file was closed while a device of it was open, once that is closed too.
  /// May wait for a call on it. @return Whether there is still such a group.
  bool end_if_abandoned();

  void open(fuse_req_t request, fuse_file_info &file) override;
  void release(fuse_req_t request, fuse_file_info &file) override;
  void ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command, std::uint64_t argument,
             bool compat) override;

private:
  GroupNode(WorkerPool &pool, const std::string &name, GroupId id, Ledger *ledger, Janitor &janitor,
            client::AbandonedDescriptors &abandoned, client::ContainerFinder find_container,
            observe::Observer &observer);

  bool end_if_abandoned_locked();

  const GroupId id_;
  Ledger *const ledger_;
  Janitor &janitor_;
  client::AbandonedDescriptors &abandoned_;
  const client::ContainerFinder find_container_;
  observe::Observer &observer_;
  std::mutex mutex_; ///< Guards what follows.
  std::shared_ptr<Group> opened_;
  bool released_ = false; ///< The file is closed; a device of the group keeps it open.
};

} // namespace vfio_shim::cuse
