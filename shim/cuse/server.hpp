// SPDX-License-Identifier: MIT
/// @file
/// All nodes of a daemon.
#pragma once

#include "cuse/call_book.hpp"
#include "cuse/client_notes.hpp"
#include "cuse/container_node.hpp"
#include "cuse/group_choice.hpp"
#include "cuse/group_node.hpp"
#include "cuse/janitor.hpp"
#include "cuse/kernel_nodes.hpp"
#include "cuse/succession.hpp"
#include "cuse/worker_pool.hpp"
#include "observe/observer.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/backend_kind.hpp"
#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "keeper/worker_store.hpp"

namespace vfio_shim::cuse {

/// How a server's nodes look and behave.
struct ServerOptions {
  std::string prefix; ///< The nodes' directory below /dev: "vfio".
  GroupChoice groups_to_serve{};
  NodePermissions container{.mode = 0666, .owner = 0, .group = 0};
  NodePermissions groups{.mode = 0600, .owner = 0, .group = 0};
  NumberBlock numbers; ///< Of no other daemon.
  ContainerLimits container_limits;
  std::uint32_t mapping_limit = default_mapping_limit;
  std::optional<IovaRange> iova_window;          ///< See ContainerOptions.
  BackendKind backend = BackendKind::iommufd;    ///< Where the containers' mappings go.
  std::function<bool(const Client &)> express{}; ///< See ContainerOptions; with iommufd only.
  /// Those whose place ours take; nullptr: none. Outlives the server.
  const KernelNodes *kernel_nodes = nullptr;

  /// Whether there are to be groups of the kernel's beside ours, in the same directory.
  bool shares_directory() const { return kernel_nodes != nullptr && !groups_to_serve.is_all(); }
};

/// What a worker that has died has left.
struct Estate {
  observe::Inheritance state;
  std::vector<Fd> predecessors; ///< Pidfds of workers that may not have ended yet.
};

/// Ends a worker that cannot take over, and destroys nothing of what there is to be taken over.
[[noreturn]] void leave_to_next_worker(const Error &why);

/// The container node, and a group node for every IOMMU group with a VFIO cdev. Not thread-safe.
class Server {
public:
  /// @param ledger,observer Outlive the server.
  /// @param store Keeps what is to outlive this worker.
  /// @param estate What a worker that has died has left; may be none. If it cannot be taken over,
  ///        this does not return: the process ends and destroys nothing, so that the next worker
  ///        can try.
  static Result<std::unique_ptr<Server>>
  create(ServerOptions options, observe::SharedLedger &ledger, observe::Observer &observer,
         std::shared_ptr<keeper::WorkerStore> store, Estate *estate = nullptr);

  /// Makes the group nodes match the groups that there are now. A node that cannot be made is
  /// logged, once, and left out. If sysfs cannot be read, all stays as it is.
  /// @return Whether none was left out. If one was, this is to be called again.
  bool follow_topology();

  Server(const Server &) = delete;
  Server &operator=(const Server &) = delete;
  /// As end(), waiting for as long as it takes.
  ~Server();

  /// Takes no more messages, and waits for the calls that are being served, until @p deadline. What
  /// is not answered then comes again to the next worker.
  void pause(std::chrono::steady_clock::time_point deadline) { (void)pool_->stop(deadline); }

  /// Takes all nodes away and ends all groups: everything is unmapped.
  /// @return What clients keep from its end at @p deadline, for the log: "group 5", "a call of
  ///         qemu[12] on /dev/vfio/vfio". The server must not be destroyed then: it would wait.
  std::vector<std::string> end(std::chrono::steady_clock::time_point deadline);

  /// Whether a client has a node open, or a device that it was given.
  bool in_use() const;

  std::size_t group_count() const { return groups_.size(); }

  /// Whether there is a node for this group.
  bool serves(GroupId group) const { return groups_.contains(group); }

private:
  using Containers = std::map<FileNumber, std::shared_ptr<Container>>;

  Server(ServerOptions options, observe::SharedLedger &ledger, observe::Observer &observer,
         std::shared_ptr<keeper::WorkerStore> store, std::unique_ptr<Janitor> janitor,
         std::shared_ptr<WorkerPool> pool)
      : options_(std::move(options)),
        ledger_(ledger),
        observer_(observer),
        store_(std::move(store)),
        numbers_(DeviceNumbers::create(options_.numbers)),
        janitor_(std::move(janitor)),
        pool_(std::move(pool)) {}

  Result<void> set_up(Estate *estate);
  Result<void> create_container_node();
  Result<void> inherit(Estate &estate);
  void adopt_group_nodes();
  void adopt_state(observe::Inheritance &state, const Succession &succession);
  void adopt_groups(observe::Inheritance &state, const Containers &containers);
  void adopt_calls(observe::Inheritance &state, const Containers &containers);
  void adopt_residents(const observe::Inheritance &state);
  void make_node(const topology::Group &group);
  Result<std::shared_ptr<GroupNode>> create_node(GroupId id);
  std::string choose_container_name() const;
  WaysToContainers ways_to_containers() const;
  bool is_to_serve(GroupId id) const;
  void leave_to_kernel(const topology::Group &group);
  Result<void> make_room(const std::string &name) const;
  void forget_kernel_node(GroupId id);
  void look_after_abandoned();
  void look_after_kvm();
  client::NamedStore store_of_kvm_files();
  void adopt_kvm_files();

  ServerOptions options_;
  observe::SharedLedger &ledger_;
  observe::Observer &observer_;
  std::shared_ptr<keeper::WorkerStore> store_;
  std::shared_ptr<DeviceNumbers> numbers_;
  ClientNotes client_notes_{ledger_};
  client::LeftInClients left_in_clients_{[this] { look_after_abandoned(); },
                                         {.book = client_notes_, .store = *store_},
                                         [this] { look_after_kvm(); },
                                         store_of_kvm_files()};
  CallBook calls_{ledger_, left_in_clients_.areas};
  std::unique_ptr<Janitor> janitor_;
  std::shared_ptr<WorkerPool>
      pool_; ///< Its end waits for the last call, so all that calls use is still there.
  std::shared_ptr<ContainerNode> container_;
  std::map<GroupId, std::shared_ptr<GroupNode>> groups_;
  std::string container_name_; ///< "vfio/vfio"
  std::set<GroupId> missing_;  ///< Groups without a node, which was logged.
  std::set<GroupId> left_;     ///< Groups that are not to be served, which was logged.
  std::atomic<bool> looking_after_kvm_ = false;
  bool blind_ = false; ///< sysfs could not be read, which was logged.
};

} // namespace vfio_shim::cuse
