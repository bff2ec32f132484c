// SPDX-License-Identifier: MIT
#include "daemon/cdi.hpp"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::daemon {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

/// The first that lets names begin with a digit. The engines of Debian 12 take no later one.
constexpr const char *cdi_version = "0.5.0";
constexpr const char *vendor = "vfio-shim";

std::string device_class(CdiApi api) {
  return api == CdiApi::legacy ? "group" : "iommufd";
}

/// A node of the host, and where the container is to have it.
struct Node {
  fs::path on_host;
  fs::path in_container;
};

/// A node with another path in the container is mounted there, besides. CDI could rename it
/// (hostPath), but a rootless engine looks on the host for the path that the container sees, and
/// so finds the kernel's node.
ordered_json edits(const std::vector<Node> &nodes) {
  ordered_json edits{{"deviceNodes", ordered_json::array()}};
  for (const auto &[on_host, in_container] : nodes) {
    edits["deviceNodes"].push_back({{"path", on_host.string()}, {"permissions", "rw"}});
    if (in_container != on_host)
      edits["mounts"].push_back({{"hostPath", on_host.string()},
                                 {"containerPath", in_container.string()},
                                 {"options", {"bind", "rw"}}});
  }
  return edits;
}

/// What every container gets that has a group.
Node common_node(CdiApi api, const std::string &prefix, const fs::path &dev) {
  if (api == CdiApi::legacy)
    return {.on_host = dev / prefix / "vfio", .in_container = dev / "vfio/vfio"};
  return {.on_host = dev / "iommu", .in_container = dev / "iommu"};
}

std::vector<Node> nodes_of(CdiApi api, const topology::Group &group, const std::string &prefix,
                           const fs::path &dev) {
  const std::string id = std::to_string(group.id.value);
  if (api == CdiApi::legacy)
    return {{.on_host = dev / prefix / id, .in_container = dev / "vfio" / id}};
  std::vector<Node> nodes;
  for (const topology::Device &device : group.devices)
    nodes.push_back({.on_host = device.cdev, .in_container = device.cdev});
  return nodes;
}

} // namespace

std::string cdi_kind(CdiApi api) {
  return fmt::format("{}/{}", vendor, device_class(api));
}

std::string cdi_file_name(CdiApi api) {
  return fmt::format("{}-{}.json", vendor, device_class(api));
}

ordered_json cdi_specification(CdiApi api, const std::vector<topology::Group> &groups,
                               const std::string &prefix, const topology::Roots &roots) {
  ordered_json devices = ordered_json::array();
  const auto add = [&devices](const std::string &name, const std::vector<Node> &nodes) {
    devices.push_back({{"name", name}, {"containerEdits", edits(nodes)}});
  };
  for (const topology::Group &group : groups) {
    const auto nodes = nodes_of(api, group, prefix, roots.dev);
    for (const topology::Device &device : group.devices)
      add(device.name, nodes);
    add(std::to_string(group.id.value), nodes);
  }
  return {{"cdiVersion", cdi_version},
          {"kind", cdi_kind(api)},
          {"devices", std::move(devices)},
          {"containerEdits", edits({common_node(api, prefix, roots.dev)})}};
}

Result<void> write_cdi_file(const fs::path &file, const ordered_json &specification) {
  constexpr mode_t everybody_reads = 0644;
  const fs::path draft = file.string() + ".new"; // No engine reads what has another ending.
  {
    std::ofstream out(draft, std::ios::trunc);
    out << specification.dump(2) << '\n' << std::flush;
    if (!out)
      return fail_errno(draft);
  }
  if (::chmod(draft.c_str(), everybody_reads) != 0 || ::rename(draft.c_str(), file.c_str()) != 0) {
    const int code = errno;
    ::unlink(draft.c_str());
    return fail(code, file);
  }
  return {};
}

CdiFile::CdiFile(const fs::path &directory, std::string prefix, topology::Roots roots)
    : file_(directory.empty() ? fs::path{} : directory / cdi_file_name(CdiApi::legacy)),
      prefix_(std::move(prefix)),
      roots_(std::move(roots)) {}

Result<void> CdiFile::follow(const std::vector<topology::Group> &groups) {
  if (file_.empty())
    return {};
  if (groups.empty())
    return remove();
  auto specification = cdi_specification(CdiApi::legacy, groups, prefix_, roots_);
  if (specification == written_)
    return {};
  std::error_code error;
  fs::create_directories(file_.parent_path(), error);
  if (error)
    return fail(error.value(), file_.parent_path());
  VFIO_SHIM_TRY(write_cdi_file(file_, specification));
  written_ = std::move(specification);
  return {};
}

Result<void> CdiFile::remove() {
  written_ = nullptr;
  if (!file_.empty() && ::unlink(file_.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR)
    return fail_errno(file_);
  return {};
}

} // namespace vfio_shim::daemon
