#include "cuse/server.hpp"

#include "client/descriptor_reserve.hpp"

#include "vfio_shim/topology.hpp"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::cuse {

Result<std::unique_ptr<Server>> Server::create(ServerOptions options, Ledger &ledger,
                                               observe::Observer &observer) {
  auto janitor = Janitor::create();
  if (!janitor)
    return pass_on(janitor);
  auto pool = WorkerPool::create(**janitor);
  if (!pool)
    return pass_on(pool);
  std::unique_ptr<Server> server(
      new Server(std::move(options), ledger, observer, std::move(*janitor), std::move(*pool)));
  const auto device_memory = std::make_shared<DeviceMemory>([](const Error &error) {
    spdlog::warn("{}: clients get EFAULT for maps of device memory (peer-to-peer DMA); the kernel "
                 "has it from Linux 6.19 on, with CONFIG_VFIO_PCI_DMABUF",
                 error.describe());
  });
  const ContainerOptions containers{
      .make_backend = backend_factory(server->options_.backend, {}, device_memory),
      .ledger = &ledger,
      .mapping_limit = server->options_.mapping_limit,
      .iova_window = server->options_.iova_window,
      .may_grow = client::room_for_lasting_descriptors};
  VFIO_SHIM_TRY(server->make_room("vfio"));
  auto number = server->numbers_->of_container();
  if (!number)
    return pass_on(number);
  auto node = ContainerNode::create(*server->pool_,
                                    {.name = server->options_.prefix + "/vfio",
                                     .number = std::move(*number),
                                     .permissions = server->options_.container},
                                    server->left_in_clients_, server->options_.container_limits,
                                    containers, device_memory, observer);
  if (!node)
    return pass_on(node);
  server->container_ = std::move(*node);
  return server;
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
  VFIO_SHIM_TRY(make_room(std::to_string(id.value)));
  auto number = numbers_->of_group(id);
  if (!number)
    return pass_on(number);
  return GroupNode::create(
      *pool_,
      {.name = fmt::format("{}/{}", options_.prefix, id.value),
       .number = std::move(*number),
       .permissions = options_.groups},
      id, &ledger_, *janitor_, left_in_clients_,
      [container = container_](const Fd &file) { return container->find(file); }, observer_);
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

bool Server::in_use() const {
  return container_->in_use() ||
         std::ranges::any_of(groups_, [](const auto &entry) { return entry.second->in_use(); });
}

Server::~Server() {
  (void)end(std::chrono::steady_clock::time_point::max());
}

std::vector<std::string> Server::end(std::chrono::steady_clock::time_point deadline) {
  constexpr std::chrono::milliseconds pause{10};
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
  auto stuck = pool_->stop(deadline);
  for (const auto &[id, node] : groups_)
    stuck.push_back(fmt::format("group {}", id.value));
  return stuck;
}

} // namespace vfio_shim::cuse
