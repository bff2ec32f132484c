// SPDX-License-Identifier: MIT
#include "cuse/server.hpp"

#include "client/descriptor_reserve.hpp"
#include "cuse/container_names.hpp"

#include "vfio_shim/topology.hpp"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace vfio_shim::cuse {

void leave_to_next_worker(const Error &why) {
  spdlog::error("this worker cannot take over: {}", why.describe());
  spdlog::default_logger()->flush();
  ::_exit(EXIT_FAILURE);
}

Result<std::unique_ptr<Server>> Server::create(ServerOptions options, observe::SharedLedger &ledger,
                                               observe::Observer &observer,
                                               std::shared_ptr<keeper::WorkerStore> store,
                                               Estate *estate) {
  auto janitor = Janitor::create();
  if (!janitor)
    return pass_on(janitor);
  auto pool = WorkerPool::create(**janitor);
  if (!pool)
    return pass_on(pool);
  std::unique_ptr<Server> server(new Server(std::move(options), ledger, observer, std::move(store),
                                            std::move(*janitor), std::move(*pool)));
  const auto done = server->set_up(estate);
  if (!done && estate != nullptr)
    leave_to_next_worker(done.error());
  if (!done)
    return pass_on(done);
  return server;
}

Result<void> Server::set_up(Estate *estate) {
  VFIO_SHIM_TRY(create_container_node());
  return estate != nullptr ? inherit(*estate) : Result<void>{};
}

Result<void> Server::create_container_node() {
  const auto device_memory = std::make_shared<DeviceMemory>([](const Error &error) {
    spdlog::warn("{}: clients get EFAULT for maps of device memory (peer-to-peer DMA); the kernel "
                 "has it from Linux 6.19 on, with CONFIG_VFIO_PCI_DMABUF",
                 error.describe());
  });
  const BackendNeeds needs{.device_memory = device_memory, .store = store_};
  const ContainerOptions containers{.make_backend = backend_factory(options_.backend, {}, needs),
                                    .ledger = &ledger_,
                                    .mapping_limit = options_.mapping_limit,
                                    .iova_window = options_.iova_window,
                                    .may_grow = client::room_for_lasting_descriptors,
                                    .adopt_backend = backend_adopter(options_.backend, {}, needs),
                                    .express = options_.express,
                                    .make_backend_on = backend_maker(needs)};
  auto number = numbers_->of_container();
  if (!number)
    return pass_on(number);
  container_name_ = choose_container_name();
  Fd connection = store_->adopt_name(Session::kept_name(container_name_));
  if (container_name_ == options_.prefix + '/' + container_name)
    VFIO_SHIM_TRY(make_room(container_name));
  else if (options_.kernel_nodes != nullptr) // Or the daemon before this one was told otherwise.
    VFIO_SHIM_TRY(options_.kernel_nodes->put_back(container_name));
  auto node = ContainerNode::create(*pool_,
                                    {.name = container_name_,
                                     .number = std::move(*number),
                                     .permissions = options_.container,
                                     .store = store_.get(),
                                     .connection = std::move(connection)},
                                    left_in_clients_, calls_, options_.container_limits, containers,
                                    ledger_, device_memory, observer_);
  if (!node)
    return pass_on(node);
  container_ = std::move(*node);
  return {};
}

/// The kernel's container stays where its groups' clients look for it. A worker goes on with the
/// name that the one before it chose.
std::string Server::choose_container_name() const {
  const std::string own = options_.prefix + '/' + container_name;
  const std::string beside = options_.prefix + '/' + container_name_beside_kernels;
  const auto is_kept = [this](const std::string &name) {
    const auto names = store_->names_with(Session::kept_name(name));
    return std::ranges::find(names, Session::kept_name(name)) != names.end();
  };
  const bool kernel_has_one = options_.shares_directory() && options_.kernel_nodes->has_container();
  return is_kept(beside) || (kernel_has_one && !is_kept(own)) ? beside : own;
}

/// Where the kernel's container has its place, clients that mean ours bring that one.
WaysToContainers Server::ways_to_containers() const {
  WaysToContainers ways{
      .find = [container = container_](const Fd &file, const ContainerNode::User &who) {
        return container->find(file, who);
      }};
  if (options_.shares_directory())
    ways.make_substitute =
        [container = container_, nodes = options_.kernel_nodes](
            const Fd &file,
            const ContainerNode::User &who) -> Result<std::optional<client::Substitute>> {
      if (!nodes->is_container(file))
        return std::nullopt;
      if (has_groups(file))
        return fail_for_operator(EBADFD, "the container has groups that stay with the kernel, and "
                                         "this group is the shim's: none can have both "
                                         "(docs/taking-over.md)");
      auto opened = container->open_for(who);
      if (!opened)
        return pass_on(opened);
      return std::optional(std::move(*opened));
    };
  return ways;
}

/// A group that is served stays so, whatever devices come to it.
bool Server::is_to_serve(GroupId id) const {
  return groups_.contains(id) || options_.groups_to_serve.has(id);
}

void Server::leave_to_kernel(const topology::Group &group) {
  const bool shared = options_.shares_directory();
  if (shared)
    if (const auto done = options_.kernel_nodes->put_back(std::to_string(group.id.value)); !done)
      spdlog::error("IOMMU group {} is not the kernel's again: {}", group.id.value,
                    done.error().describe());
  if (left_.insert(group.id).second)
    spdlog::info("IOMMU group {} ({}) {}", group.id.value, group.devices.front().name,
                 shared ? "stays with the kernel" : "is not served");
}

bool Server::follow_topology() {
  const auto groups = topology::groups();
  if (!groups) { // Nothing is known, so nothing has gone.
    if (!std::exchange(blind_, true))
      spdlog::error("cannot see which devices there are: {}", groups.error().describe());
    return false;
  }
  blind_ = false;
  std::set<GroupId> present;
  for (const topology::Group &group : *groups) {
    if (!is_to_serve(group.id)) {
      leave_to_kernel(group);
      continue;
    }
    present.insert(group.id);
    if (const auto known = groups_.find(group.id); known != groups_.end()) {
      (void)make_room(std::to_string(group.id.value)); // It may have gone and come since.
      known->second->follow_topology();
    } else {
      make_node(group);
    }
  }
  std::erase_if(groups_, [this, &present](const auto &entry) {
    if (present.contains(entry.first))
      return false;
    spdlog::info("{} goes: its group has no VFIO device any more", entry.second->path().string());
    entry.second->retire();
    forget_kernel_node(entry.first);
    // Not here: a client's call on the group may take its time, and others want to plug too.
    janitor_->repeat([node = entry.second] { return node->close_group() != Departure::left; });
    return true;
  });
  std::erase_if(missing_, [&present](GroupId id) { return !present.contains(id); });
  return missing_.empty();
}

Result<void> Server::make_room(const std::string &name) const {
  return options_.kernel_nodes != nullptr ? options_.kernel_nodes->put_aside(name) : Result<void>{};
}

/// The kernel takes its group away a little later than the devices.
void Server::forget_kernel_node(GroupId id) {
  if (options_.kernel_nodes == nullptr)
    return;
  constexpr std::chrono::seconds patience{2};
  const auto until = std::chrono::steady_clock::now() + patience;
  janitor_->repeat([nodes = options_.kernel_nodes, name = std::to_string(id.value), until] {
    return !nodes->forget_if_gone(name) && std::chrono::steady_clock::now() < until;
  });
}

Result<std::shared_ptr<GroupNode>> Server::create_node(GroupId id) {
  auto number = numbers_->of_group(id);
  if (!number)
    return pass_on(number);
  const std::string name = fmt::format("{}/{}", options_.prefix, id.value);
  Fd connection = store_->adopt_name(Session::kept_name(name));
  VFIO_SHIM_TRY(make_room(std::to_string(id.value)));
  return GroupNode::create(*pool_,
                           {.name = name,
                            .number = std::move(*number),
                            .permissions = options_.groups,
                            .store = store_.get(),
                            .connection = std::move(connection)},
                           id, ledger_, *janitor_, left_in_clients_, calls_, ways_to_containers(),
                           observer_);
}

void Server::make_node(const topology::Group &group) {
  auto node = create_node(group.id);
  if (!node) {
    if (missing_.insert(group.id).second)
      spdlog::error("no node for IOMMU group {}: {}", group.id.value, node.error().describe());
    return;
  }
  missing_.erase(group.id);
  spdlog::info("{} serves IOMMU group {} ({})", (*node)->path().string(), group.id.value,
               group.devices.front().name);
  groups_.emplace(group.id, std::move(*node));
}

/// For as long as a process takes to end that has just closed its files. One that lives on keeps
/// what it has until it is borrowed again.
void Server::look_after_abandoned() {
  constexpr std::chrono::seconds patience{2};
  const auto until = std::chrono::steady_clock::now() + patience;
  janitor_->repeat([this, until] {
    return left_in_clients_.abandoned.forget_ended() && std::chrono::steady_clock::now() < until;
  });
}

void Server::look_after_kvm() {
  if (!looking_after_kvm_.exchange(true))
    janitor_->repeat([this] {
      looking_after_kvm_ = false; // News that comes from now on may come too late for this time.
      return left_in_clients_.known_to_kvm.look_after() && !looking_after_kvm_.exchange(true);
    });
}

client::NamedStore Server::store_of_kvm_files() {
  return {.keep = [store = store_](const std::string &name,
                                   const Fd &file) { return store->keep_as(name, file); },
          .drop = [store = store_](const std::string &name) { store->drop_name(name); }};
}

bool Server::in_use() const {
  return container_->in_use() ||
         std::ranges::any_of(groups_, [](const auto &entry) { return entry.second->in_use(); });
}

Server::~Server() {
  (void)end(std::chrono::steady_clock::time_point::max());
}

std::vector<std::string> Server::end(std::chrono::steady_clock::time_point deadline) {
  constexpr std::chrono::milliseconds pause{10};
  constexpr std::chrono::milliseconds patience_with_idle{300};
  for (const auto &[id, node] : groups_)
    node->retire();
  if (container_)
    container_->disappear();
  const auto close_groups = [this] {
    std::erase_if(groups_,
                  [](const auto &entry) { return entry.second->close_group() == Departure::left; });
    return groups_.empty();
  };
  while (!close_groups() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(pause);
  // Workers that are not stuck end at once, but not within no time at all.
  auto stuck =
      pool_->stop(std::max(deadline, std::chrono::steady_clock::now() + patience_with_idle));
  for (const auto &[id, node] : groups_)
    stuck.push_back(fmt::format("group {}", id.value));
  return stuck;
}

} // namespace vfio_shim::cuse
