// SPDX-License-Identifier: MIT
/// @file
/// A character device of ours under /dev: what container and group nodes have in common.
#pragma once

#include "cuse/device_numbers.hpp"
#include "cuse/session.hpp"
#include "cuse/worker_pool.hpp"

#include "vfio_shim/result.hpp"

#include <filesystem>
#include <memory>
#include <string>

#include <sys/types.h>

namespace vfio_shim::cuse {

/// Who may use a node.
struct NodePermissions {
  mode_t mode = 0600;
  uid_t owner = 0;
  gid_t group = 0;
};

/// What a node is to look like.
struct NodeLook {
  std::string name; ///< Below /dev: "vfio/12".
  DeviceNumbers::Lease number;
  NodePermissions permissions;
  keeper::WorkerStore *store = nullptr; ///< Keeps its connection, if any; outlives the node.
  Fd connection{};                      ///< Of a worker that has died: the node is there already.
};

/// A node that is there and being served, until it is told to disappear.
class Node : public Handler {
public:
  /// Serves its messages from now on.
  Result<void> be_served() { return pool_.add(session_); }
  const std::shared_ptr<Session> &session() const { return session_; }

  /// Takes the node away. Calls that are being served go on; waits for nobody.
  void disappear();

  /// Its path: "/dev/vfio/vfio".
  const std::filesystem::path &path() const { return path_; }

protected:
  Node(WorkerPool &pool, const std::string &name);

  /// Makes the node appear, and serves it; or goes on with one that is there, which is served once
  /// be_served() says so. Needs an owner: a shared_ptr to this object.
  /// @return EEXIST: something else has the name, or a call on a node of ours that had it before is
  ///         still being served. As Session::create(). What fails leaves no node behind.
  Result<void> appear(NodeLook look);
  /// The node's device number, to recognise its open files.
  dev_t device_number() const { return device_number_; }

private:
  Result<void> go_on(NodeLook look);
  Result<void> find_it(dev_t number, const NodePermissions &permissions);
  Result<void> give_to(const NodePermissions &permissions) const;

  WorkerPool &pool_;
  std::string name_;
  std::filesystem::path path_;
  std::shared_ptr<Session> session_;
  dev_t device_number_ = 0;
};

} // namespace vfio_shim::cuse
