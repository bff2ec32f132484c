#include "cuse/server.hpp"

#include "vfio_shim/topology.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::cuse {

Result<std::unique_ptr<Server>> Server::create(ServerOptions options, Ledger &ledger,
                                               observe::Observer &observer) {
  std::unique_ptr<Server> server(new Server(std::move(options), ledger, observer));
  const auto device_memory = std::make_shared<DeviceMemory>([](const Error &error) {
    spdlog::warn("{}: clients get EFAULT for maps of device memory (peer-to-peer DMA); the kernel "
                 "has it from Linux 6.19 on, with CONFIG_VFIO_PCI_DMABUF",
                 error.describe());
  });
  const ContainerOptions containers{
      .make_backend = backend_factory(server->options_.backend, {}, device_memory),
      .ledger = &ledger,
      .mapping_limit = server->options_.mapping_limit,
      .iova_window = server->options_.iova_window};
  auto node = ContainerNode::create(server->pool_, server->options_.prefix + "/vfio",
                                    server->options_.container, server->abandoned_, containers,
                                    device_memory, observer);
  if (!node)
    return pass_on(node);
  server->container_ = std::move(*node);
  return server;
}

bool Server::follow_topology() {
  std::set<GroupId> present;
  for (const topology::Group &group : topology::scan()) {
    present.insert(group.id);
    if (const auto known = groups_.find(group.id); known != groups_.end()) {
      janitor_.repeat([node = known->second] { return node->follow_topology(); });
      continue;
    }
    auto node = GroupNode::create(
        pool_, fmt::format("{}/{}", options_.prefix, group.id.value), options_.groups, group.id,
        &ledger_, janitor_, abandoned_,
        [container = container_](const Fd &file) { return container->find(file); }, observer_);
    if (!node) {
      if (missing_.insert(group.id).second)
        spdlog::error("no node for IOMMU group {}: {}", group.id.value, node.error().describe());
      continue;
    }
    missing_.erase(group.id);
    spdlog::info("{} serves IOMMU group {} ({})", (*node)->path().string(), group.id.value,
                 group.devices.front().name);
    groups_.emplace(group.id, std::move(*node));
  }
  std::erase_if(groups_, [this, &present](const auto &entry) {
    if (present.contains(entry.first))
      return false;
    spdlog::info("{} goes: its group has no VFIO device any more", entry.second->path().string());
    entry.second->disappear();
    // Not here: a client's call on the group may take its time, and others want to plug too.
    janitor_.repeat([node = entry.second] {
      node->close_group();
      return false;
    });
    return true;
  });
  std::erase_if(missing_, [&present](GroupId id) { return !present.contains(id); });
  return missing_.empty();
}

bool Server::in_use() const {
  return container_->in_use() ||
         std::ranges::any_of(groups_, [](const auto &entry) { return entry.second->in_use(); });
}

Server::~Server() {
  for (auto &[id, node] : groups_) {
    node->disappear();
    node->close_group();
  }
  if (container_)
    container_->disappear();
}

} // namespace vfio_shim::cuse
