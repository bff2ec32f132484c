// SPDX-License-Identifier: MIT
/// @file
/// A group node: `/dev/vfio/<N>`.
#pragma once

#include "client/calling_thread.hpp"
#include "cuse/container_node.hpp"
#include "cuse/janitor.hpp"
#include "cuse/node.hpp"
#include "cuse/open_file.hpp"
#include "observe/observer.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/group.hpp"

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace vfio_shim::cuse {

/// Tells which container an open file stands for. May block for another call to be served.
using ContainerFinder =
    std::function<Result<std::shared_ptr<Container>>(const Fd &, const ContainerNode::User &)>;

/// Makes a container that takes a file's place. Nothing: the file may stay. EBADFD: it is in use.
using SubstituteMaker = std::function<Result<std::optional<client::Substitute>>(
    const Fd &, const ContainerNode::User &)>;

/// How a group comes to the container that its client names.
struct WaysToContainers {
  ContainerFinder find;
  SubstituteMaker make_substitute{}; ///< None: nothing is replaced.
};

/// Opens one IOMMU group, to one client at a time.
///
/// A group whose file was closed may have to wait until its devices are closed, and until a call on
/// its container is over, which other clients may share. The janitor looks after it. An open() in
/// the meantime is answered when that is settled, or with EBUSY after a while; no thread waits.
class GroupNode final : public Node {
public:
  /// @param containers Tell the container behind an open file.
  /// @param janitor Told of groups whose file is closed while a device of theirs is open.
  static Result<std::shared_ptr<GroupNode>> create(WorkerPool &pool, NodeLook look, GroupId id,
                                                   observe::SharedLedger &ledger, Janitor &janitor,
                                                   client::LeftInClients &left_in_clients,
                                                   CallBook &calls, WaysToContainers containers,
                                                   observe::Observer &observer);

  /// Takes a group over from a worker that has died.
  void adopt(const GroupState &state, const std::shared_ptr<Group> &group);

  /// The group, if it is open as that file; or nullptr.
  std::shared_ptr<Group> opened_as(FileNumber file) const {
    const auto found = files_.find(file);
    return found ? found->served : nullptr;
  }

  /// Takes the node away for good: its device was unplugged, or the daemon ends.
  void retire();

  /// Ends the group that is open, whatever of it is open: it leaves its container. To be called
  /// again until it has left. Waits for nobody. @return `left` or `busy`.
  Departure close_group();

  /// Whether a client has the node or a device of the group open.
  bool in_use();

  /// Has the group let go of devices that are to be unbound from their driver: soon, if a call on
  /// it is being served.
  void follow_topology();

  void open(fuse_req_t request, fuse_file_info &file) override;
  void release(fuse_req_t request, fuse_file_info &file) override;
  void ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command, std::uint64_t argument,
             bool compat) override;

private:
  GroupNode(WorkerPool &pool, const std::string &name, GroupId id, observe::SharedLedger &ledger,
            Janitor &janitor, client::LeftInClients &left_in_clients, CallBook &calls,
            WaysToContainers containers, observe::Observer &observer);

  /// An open() that is not answered yet: whether the group is free is not known.
  struct Opening;

  bool try_follow_topology();
  bool settle();
  void answer_openings(Departure departure);
  void grant(Opening &opening);
  std::shared_ptr<Group> abandoned();

  using OpenGroup = OpenFile<Group>;

  const GroupId id_;
  observe::SharedLedger &ledger_;
  Janitor &janitor_;
  client::LeftInClients &left_in_clients_;
  CallBook &calls_;
  const WaysToContainers containers_;
  observe::Observer &observer_;
  OpenGroup::Files files_;
  std::atomic<bool> following_ = false; ///< The janitor tries to follow.
  std::mutex mutex_;                    ///< Guards what follows. Nobody waits while holding it.
  bool retired_ = false;
  std::shared_ptr<Group> opened_;
  bool has_file_ = false; ///< opened_ has. If not, a device, or a call on its container, keeps the
                          ///< group open.
  std::deque<std::unique_ptr<Opening>> openings_; ///< While the group's last file is closed.
};

} // namespace vfio_shim::cuse
