// SPDX-License-Identifier: MIT
/// @file
/// How a server goes on with what a worker that has died has left.

#include "cuse/server.hpp"

#include <algorithm>
#include <charconv>

#include <spdlog/spdlog.h>

namespace vfio_shim::cuse {

Result<void> Server::inherit(Estate &estate) {
  adopt_group_nodes();
  std::vector<std::shared_ptr<Session>> sessions{container_->session()};
  for (const auto &[id, node] : groups_)
    sessions.push_back(node->session());
  Succession succession(std::move(sessions), ContainerNode::identify_command());
  if (!succession.outlast(estate.predecessors))
    spdlog::warn("a worker that has died does not end: going on without waiting for it");
  adopt_state(estate.state, succession);
  calls_.expect(succession.calls());
  store_->drop_the_rest();
  VFIO_SHIM_TRY(container_->be_served());
  for (const auto &[id, node] : groups_)
    VFIO_SHIM_TRY(node->be_served());
  for (auto &[session, message] : std::move(succession).messages())
    pool_->carry_out(std::move(session), std::move(message));
  return {};
}

/// Also of groups whose devices have gone meanwhile.
void Server::adopt_group_nodes() {
  const std::string beginning = Session::kept_name(options_.prefix + "/");
  for (const std::string &name : store_->names_with(beginning)) {
    const std::string_view text = std::string_view(name).substr(beginning.size());
    std::uint32_t number = 0;
    if (std::from_chars(text.begin(), text.end(), number).ptr != text.end())
      continue;
    auto node = create_node(GroupId{number});
    if (node)
      groups_.emplace(GroupId{number}, std::move(*node));
    else
      spdlog::error("the node of group {} is lost: {}", number, node.error().describe());
  }
}

void Server::adopt_state(observe::Inheritance &state, const Succession &succession) {
  // What was being opened is opened once more.
  std::erase_if(state.groups, [&](const GroupState &group) {
    const bool again =
        group.opening == 0 ||
        succession.opens(fmt::format("{}/{}", options_.prefix, group.id.value), group.opening);
    if (again)
      ledger_.group_gone(group.record);
    return again;
  });
  std::erase_if(state.containers, [&](const ContainerState &container) {
    const bool again =
        container.opening == 0 || succession.opens(container_name_, container.opening);
    if (again)
      ledger_.container_gone(container.record);
    return again;
  });
  Containers containers;
  for (const ContainerState &container : state.containers) {
    std::vector<GroupState> groups;
    std::ranges::copy_if(
        state.groups, std::back_inserter(groups),
        [&container](const GroupState &group) { return group.container == container.file; });
    auto adopted = container_->adopt(container, groups);
    if (adopted)
      containers.emplace(container.file, std::move(*adopted));
    else
      spdlog::error("container {} is lost: {}", container.file.value, adopted.error().describe());
  }
  adopt_groups(state, containers);
  for (const ContainerState &container : state.containers)
    if (const auto other = containers.find(container.stands_for); other != containers.end()) {
      container_->stand_for(container.file, other->second);
      containers[container.file] = other->second; // Calls on its file are for that one.
    }
  adopt_calls(state, containers);
  adopt_residents(state);
  adopt_kvm_files();
}

void Server::adopt_groups(observe::Inheritance &state, const Containers &containers) {
  for (const GroupState &group : state.groups) {
    const auto node = groups_.find(group.id);
    const auto container = containers.find(group.container);
    auto adopted = Group::adopt(group, {}, &ledger_,
                                container != containers.end() ? container->second : nullptr);
    if (node != groups_.end())
      node->second->adopt(group, adopted);
  }
}

void Server::adopt_calls(observe::Inheritance &state, const Containers &containers) {
  calls_.inherit(state, [&](FileNumber file, const Intention &intention) {
    if (const auto container = containers.find(file); container != containers.end())
      return container->second->settle(intention);
    for (const auto &[id, node] : groups_)
      if (const auto group = node->opened_as(file))
        return group->settle(intention);
    return Outcome{.carried_out = false, .size = {}};
  });
}

void Server::adopt_residents(const observe::Inheritance &state) {
  std::list<client::ResidentDescriptor> others;
  for (const auto &[record, body] : state.residents) {
    const FileNumber file{body.file};
    auto adopted = client::adopt_resident({.because_of = file,
                                           .process = Pid{body.pid},
                                           .there = ClientFd{body.descriptor},
                                           .kept = body.kept,
                                           .number = body.number,
                                           .of = body.of},
                                          record, left_in_clients_.books);
    if (!adopted)
      continue;
    if (auto *residents = container_->residents_of(file))
      residents->adopt(std::move(*adopted));
    else
      others.push_back(std::move(*adopted));
  }
  left_in_clients_.abandoned.add(std::move(others));
}

/// By their names: they belong to no record.
void Server::adopt_kvm_files() {
  for (const std::string &name : store_->names_with(client::KnownToKvm::kept_name))
    left_in_clients_.known_to_kvm.adopt(name, store_->adopt_name(name));
}

} // namespace vfio_shim::cuse
