/// @file
/// The container node: /dev/vfio/vfio.
#pragma once

#include "cuse/node.hpp"

#include "vfio_shim/container.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace vfio_shim::cuse {

/// Makes a new container of every open file.
class ContainerNode final : public Node {
public:
  static Result<std::shared_ptr<ContainerNode>> create(WorkerPool &pool, const std::string &name,
                                                       const NodePermissions &permissions,
                                                       ContainerOptions options);

  /// The container that @p file is an open file of, or nothing.
  ///
  /// A descriptor does not tell what a FUSE server keeps for it, so the file is asked: an ioctl
  /// that only a container of this node answers, and only to one who knows a random number that is
  /// valid during this call. Another worker must be free to serve it.
  std::shared_ptr<Container> find(const Fd &file);

  /// Whether a client has the node open.
  bool in_use() const { return open_files_ != 0; }

  void open(fuse_req_t request, fuse_file_info &file) override;
  void release(fuse_req_t request, fuse_file_info &file) override;
  void ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command, std::uint64_t argument,
             bool compat) override;

private:
  ContainerNode(WorkerPool &pool, const std::string &name, ContainerOptions options);

  bool answer_identify(std::uint64_t token, const std::shared_ptr<Container> &container);

  ContainerOptions options_;
  std::atomic<int> open_files_ = 0;
  std::mutex mutex_; ///< Guards what follows.
  std::unordered_map<std::uint64_t, std::shared_ptr<Container>> questions_; ///< By their token.
};

} // namespace vfio_shim::cuse
