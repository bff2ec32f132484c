// SPDX-License-Identifier: MIT
#include "cli/status_report.hpp"

#include "cli/human.hpp"
#include "cli/table.hpp"
#include "cuse/container_names.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace vfio_shim::cli {

namespace {

using json = nlohmann::ordered_json;
using observe::Snapshot;
using observe::Time;
using Mappings = observe::LedgerReader::Mappings;

std::string_view iommu_type_name(std::uint32_t type) {
  switch (type) {
  case 0:
    return "";
  case VFIO_TYPE1_IOMMU:
    return "TYPE1";
  case VFIO_TYPE1v2_IOMMU:
    return "TYPE1v2";
  default:
    return "unknown";
  }
}

std::string client_text(const Snapshot::Client &client) {
  return fmt::format("{}[{}]", printable(client.command), client.pid.value);
}

std::string age(Time since, Time now) {
  return human_duration(std::chrono::duration_cast<std::chrono::seconds>(now - since));
}

// --- for people

std::string groups_text(const std::vector<GroupId> &groups) {
  std::string text = groups.empty() ? "no groups" : groups.size() == 1 ? "group" : "groups";
  for (const GroupId group : groups)
    text += fmt::format(" {}", group.value);
  return text;
}

std::string nodes_text(const Nodes &nodes) {
  std::string text = fmt::format("nodes: {}, {}\n", nodes.container ? "container" : "no container",
                                 groups_text(nodes.groups));
  if (!nodes.kept_by_kernel.empty())
    text += fmt::format("the kernel's own: {}, which cannot share a container with these\n",
                        groups_text(nodes.kept_by_kernel));
  return text;
}

std::string group_text(const Snapshot::Group &group, const Snapshot::Client *known_client) {
  std::string text = fmt::format("group {}: ", group.number.value);
  if (group.devices.empty())
    text += "no device open";
  for (const std::string &device : group.devices)
    text += fmt::format("{}{}", &device == group.devices.data() ? "" : ", ", printable(device));
  if (known_client == nullptr || known_client->pid != group.client.pid)
    text += fmt::format(" (opened by {})", client_text(group.client));
  return text;
}

std::string mapping_text(const Snapshot::Mapping &mapping) {
  const std::string vaddr = mapping.vaddr ? fmt::format("{:#014x}", mapping.vaddr->value) : "none";
  return fmt::format("iova {:#014x}  vaddr {:<14}  {:>9}  {}{}", mapping.iova.value, vaddr,
                     human_bytes(mapping.size), mapping.access.read ? 'r' : '-',
                     mapping.access.write ? 'w' : '-');
}

void add_container(Table &table, const Snapshot::Container &container, Time now) {
  const auto type = iommu_type_name(container.iommu_type);
  table.add_row({std::to_string(container.id), client_text(container.client),
                 std::string(type.empty() ? "none set" : type),
                 container.express ? "express" : std::to_string(container.mappings),
                 container.express ? "" : human_bytes(container.mapped_bytes),
                 age(container.opened, now)});
  for (const Snapshot::Group &group : container.groups)
    table.add_remark(group_text(group, &container.client));
  for (const Snapshot::Mapping &mapping : container.mapping_list)
    table.add_remark(mapping_text(mapping));
}

// --- for programs

std::string iso_time(Time time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

json client_json(const Snapshot::Client &client) {
  return {{"pid", client.pid.value}, {"command", client.command}};
}

json groups_json(const std::vector<Snapshot::Group> &groups) {
  json list = json::array();
  for (const Snapshot::Group &group : groups)
    list.push_back({{"id", group.id},
                    {"group", group.number.value},
                    {"client", client_json(group.client)},
                    {"opened", iso_time(group.opened)},
                    {"devices", group.devices}});
  return list;
}

json mappings_json(const std::vector<Snapshot::Mapping> &mappings) {
  json list = json::array();
  for (const Snapshot::Mapping &mapping : mappings)
    list.push_back({{"iova", fmt::format("{:#x}", mapping.iova.value)},
                    {"vaddr", mapping.vaddr ? json(fmt::format("{:#x}", mapping.vaddr->value))
                                            : json(nullptr)},
                    {"size", mapping.size.value},
                    {"read", mapping.access.read},
                    {"write", mapping.access.write}});
  return list;
}

json container_json(const Snapshot::Container &container, Mappings mappings) {
  const auto type = iommu_type_name(container.iommu_type);
  json object = {{"id", container.id},
                 {"client", client_json(container.client)},
                 {"opened", iso_time(container.opened)},
                 {"iommu_type", type.empty() ? json(nullptr) : json(type)},
                 {"express", container.express},
                 {"mappings",
                  {{"count", container.mappings},
                   {"bytes", container.mapped_bytes.value},
                   {"unrecorded", 0},
                   {"mapped", container.maps},
                   {"unmapped", container.unmaps}}},
                 {"groups", groups_json(container.groups)}};
  if (mappings == Mappings::listed)
    object["mapping_list"] = mappings_json(container.mapping_list);
  return object;
}

/// Whether the node is that of the kernel's device which sysfs has at @p device.
bool is_the_kernels(const std::filesystem::path &node, const std::filesystem::path &device) {
  std::ifstream file(device / "dev");
  unsigned int major = 0;
  unsigned int minor = 0;
  char colon = 0;
  struct stat found {};
  return file >> major >> colon >> minor && ::stat(node.c_str(), &found) == 0 &&
         S_ISCHR(found.st_mode) && found.st_rdev == ::gnu_dev_makedev(major, minor);
}

std::optional<GroupId> group_number(std::string_view name) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size())
    return std::nullopt;
  return GroupId{number};
}

} // namespace

Nodes find_nodes(const std::string &prefix, const topology::Roots &roots) {
  Nodes nodes;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(roots.dev / prefix, error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const auto group = group_number(name);
    if (name == cuse::container_name_beside_kernels)
      nodes.container = true;
    else if (name == cuse::container_name)
      nodes.container = nodes.container || !is_the_kernels(*entry, roots.sys / "class/misc/vfio");
    else if (group && is_the_kernels(*entry, roots.sys / "class/vfio" / name))
      nodes.kept_by_kernel.push_back(*group);
    else if (group)
      nodes.groups.push_back(*group);
  }
  std::ranges::sort(nodes.groups);
  std::ranges::sort(nodes.kept_by_kernel);
  return nodes;
}

/// The process that was started, and that signals go to.
int pid_of(const Snapshot::Daemon &daemon) {
  return daemon.keeper.value != 0 ? daemon.keeper.value : daemon.pid.value;
}

double pause_ms(const Snapshot::Daemon &daemon) {
  return std::chrono::duration<double, std::milli>(daemon.last_pause).count();
}

std::string replacements_text(const Snapshot::Daemon &daemon) {
  if (daemon.replaced == 0)
    return "";
  return fmt::format("; the worker was replaced {}, with a pause of {:.0f} ms the last time",
                     daemon.replaced == 1 ? "once" : fmt::format("{} times", daemon.replaced),
                     pause_ms(daemon));
}

std::string head_text(const Snapshot::Daemon &daemon, Time now) {
  const std::string since = fmt::format(
      "{:%Y-%m-%d %H:%M:%S}", fmt::localtime(std::chrono::system_clock::to_time_t(daemon.since)));
  if (daemon.alive)
    return fmt::format("vfio-shim (pid {}, worker {}) serves /dev/{}, since {} ({}){}\n",
                       pid_of(daemon), daemon.pid.value, printable(daemon.prefix), since,
                       age(daemon.since, now), replacements_text(daemon));
  return fmt::format(
      "vfio-shim (pid {}), which served /dev/{} since {}, is dead. It has left this, "
      "until a new one starts there:\n",
      pid_of(daemon), printable(daemon.prefix), since);
}

std::string containers_text(const Snapshot &snapshot, Time now) {
  if (snapshot.containers.empty())
    return "no container is open\n";
  using enum Table::Align;
  Table table({{.title = "CONTAINER", .align = right},
               {.title = "CLIENT", .align = left},
               {.title = "IOMMU", .align = left},
               {.title = "MAPPINGS", .align = right},
               {.title = "MAPPED", .align = right},
               {.title = "OPEN FOR", .align = right}});
  for (const Snapshot::Container &container : snapshot.containers)
    add_container(table, container, now);
  return table.text();
}

std::string status_text(const DaemonStatus &daemon, Time now) {
  const Snapshot &snapshot = daemon.snapshot;
  std::string text = head_text(snapshot.daemon, now);
  if (snapshot.daemon.alive)
    text += nodes_text(daemon.nodes);
  text += '\n' + containers_text(snapshot, now);
  if (!snapshot.groups_without_container.empty())
    text += "\nin no container:\n";
  for (const Snapshot::Group &group : snapshot.groups_without_container)
    text += fmt::format("  {}\n", group_text(group, nullptr));
  if (snapshot.refused != 0)
    text += fmt::format("\nThe ledger had no room {}: clients were refused what they asked for.\n",
                        snapshot.refused == 1 ? "once" : fmt::format("{} times", snapshot.refused));
  if (snapshot.torn != 0)
    text += fmt::format("\n{} half-written and not shown.\n",
                        snapshot.torn == 1 ? "1 record is"
                                           : fmt::format("{} records are", snapshot.torn));
  return text;
}

json status_json(const DaemonStatus &daemon, Mappings mappings) {
  const Snapshot &snapshot = daemon.snapshot;
  const auto numbers = [](const std::vector<GroupId> &groups) {
    json list = json::array();
    for (const GroupId group : groups)
      list.push_back(group.value);
    return list;
  };
  json containers = json::array();
  for (const Snapshot::Container &container : snapshot.containers)
    containers.push_back(container_json(container, mappings));
  return {{"prefix", snapshot.daemon.prefix},
          {"pid", pid_of(snapshot.daemon)},
          {"keeper_pid", snapshot.daemon.keeper.value},
          {"worker_pid", snapshot.daemon.pid.value},
          {"tracer_pid", snapshot.daemon.pid.value}, // Threads are borrowed by the worker itself.
          {"replaced", snapshot.daemon.replaced},
          {"last_pause_ms", pause_ms(snapshot.daemon)},
          {"alive", snapshot.daemon.alive},
          {"since", iso_time(snapshot.daemon.since)},
          {"kernel", snapshot.daemon.kernel},
          {"nodes",
           {{"container", daemon.nodes.container},
            {"groups", numbers(daemon.nodes.groups)},
            {"kept_by_kernel", numbers(daemon.nodes.kept_by_kernel)}}},
          {"containers", std::move(containers)},
          {"groups_without_container", groups_json(snapshot.groups_without_container)},
          {"records_refused", snapshot.refused},
          {"records_torn", snapshot.torn}};
}

} // namespace vfio_shim::cli
