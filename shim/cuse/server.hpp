/// @file
/// All nodes of a daemon.
#pragma once

#include "cuse/container_node.hpp"
#include "cuse/group_node.hpp"
#include "cuse/janitor.hpp"
#include "cuse/worker_pool.hpp"
#include "observe/observer.hpp"

#include "vfio_shim/backend_kind.hpp"
#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace vfio_shim::cuse {

/// How a server's nodes look and behave.
struct ServerOptions {
  std::string prefix; ///< The nodes' directory below /dev: "vfio".
  NodePermissions container{.mode = 0666, .owner = 0, .group = 0};
  NodePermissions groups{.mode = 0600, .owner = 0, .group = 0};
  std::uint32_t mapping_limit = default_mapping_limit;
  std::optional<IovaRange> iova_window;       ///< See ContainerOptions.
  BackendKind backend = BackendKind::iommufd; ///< Where the containers' mappings go.
};

/// The container node, and a group node for every IOMMU group with a VFIO cdev. Not thread-safe.
class Server {
public:
  /// @param ledger Outlives the server.
  /// @param observer Outlives the server.
  static Result<std::unique_ptr<Server>> create(ServerOptions options, Ledger &ledger,
                                                observe::Observer &observer);

  /// Makes the group nodes match the groups that there are now. A node that cannot be made is
  /// logged, once, and left out.
  /// @return Whether none was left out.
  bool follow_topology();

  Server(const Server &) = delete;
  Server &operator=(const Server &) = delete;
  /// Takes all nodes away and ends all groups: everything is unmapped.
  ~Server();

  /// Whether a client has a node open, or a device that it was given.
  bool in_use() const;

  std::size_t group_count() const { return groups_.size(); }

private:
  Server(ServerOptions options, Ledger &ledger, observe::Observer &observer)
      : options_(std::move(options)), ledger_(ledger), observer_(observer) {}

  ServerOptions options_;
  Ledger &ledger_;
  observe::Observer &observer_;
  client::AbandonedDescriptors abandoned_;
  Janitor janitor_;
  WorkerPool pool_; ///< Its end waits for the last call, so all that calls use is still there.
  std::shared_ptr<ContainerNode> container_;
  std::map<GroupId, std::shared_ptr<GroupNode>> groups_;
  std::set<GroupId> missing_; ///< Groups without a node, which was logged.
};

} // namespace vfio_shim::cuse
