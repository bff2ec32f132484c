// SPDX-License-Identifier: MIT
/// @file
/// The container node: /dev/vfio/vfio.
#pragma once

#include "backend/device_memory.hpp"
#include "client/calling_thread.hpp"
#include "cuse/node.hpp"
#include "cuse/open_file.hpp"
#include "cuse/open_limits.hpp"
#include "observe/observer.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/container.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace vfio_shim::cuse {

/// Makes a new container of every open file.
class ContainerNode final : public Node {
public:
  /// @param left_in_clients Outlives the node.
  static Result<std::shared_ptr<ContainerNode>>
  create(WorkerPool &pool, NodeLook look, client::LeftInClients &left_in_clients, CallBook &calls,
         ContainerLimits limits, ContainerOptions options, observe::SharedLedger &ledger,
         std::shared_ptr<DeviceMemory> device_memory, observe::Observer &observer);

  /// The ioctl by which find() asks a file who it is.
  static unsigned int identify_command();

  /// Takes a container over from a worker that has died. @param groups Those that are in it.
  /// @return As Container::adopt().
  Result<std::shared_ptr<Container>> adopt(const ContainerState &state,
                                           const std::vector<GroupState> &groups);
  /// The open file of that number, for what else is taken over; or nullptr.
  client::ResidentDescriptors *residents_of(FileNumber file);

  /// See OpenFile::stand_for(). @param file Of a container that was taken over.
  void stand_for(FileNumber file, const std::shared_ptr<Container> &other);

  /// Who wants to use a file as a container.
  struct User {
    uid_t user = 0;
    Pid process;
  };

  /// The container that @p file is an open file of, or nothing.
  ///
  /// A descriptor does not tell what a FUSE server keeps for it, so the file is asked: an ioctl
  /// that only a container of this node answers, and only to one who knows a random number that is
  /// valid during this call. Another worker must be free to serve it.
  ///
  /// An iommufd is the container that has it in its place, or becomes one if containers may.
  Result<std::shared_ptr<Container>> find(const Fd &file, const User &who);

  /// Opens the node for a client that has not opened it itself.
  /// @return As the client's own open().
  Result<client::Substitute> open_for(const User &who);

  /// Whether a client has the node open.
  bool in_use() const { return !files_.empty(); }

  void open(fuse_req_t request, fuse_file_info &file) override;
  void release(fuse_req_t request, fuse_file_info &file) override;
  void ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command, std::uint64_t argument,
             bool compat) override;

private:
  using OpenContainer = OpenFile<Container>;
  using Handle = OpenContainer::Handle;

  ContainerNode(WorkerPool &pool, const std::string &name, client::LeftInClients &left_in_clients,
                CallBook &calls, ContainerLimits limits, ContainerOptions options,
                observe::SharedLedger &ledger, std::shared_ptr<DeviceMemory> device_memory,
                observe::Observer &observer);

  Result<std::shared_ptr<Container>> make_container(uid_t user, FileNumber number, Pid client);
  User user_behind(uid_t user, Tid thread);
  Result<std::shared_ptr<Container>>
  counted(uid_t user, const std::function<Result<std::shared_ptr<Container>>()> &make);
  Result<std::shared_ptr<Container>> ask_who_it_is(const Fd &file);
  std::shared_ptr<Container> find_express(const Fd &iommufd);
  Result<std::shared_ptr<Container>> make_express(const Fd &iommufd, const User &who);
  Result<void> answer_stand_for(Tid thread, std::uint64_t number, const Handle &opened);
  bool answer_identify(std::uint64_t token, const Handle &opened);

  client::LeftInClients &left_in_clients_;
  CallBook &calls_;
  OpenLimits limits_;
  ContainerOptions options_;
  observe::SharedLedger &ledger_;
  std::shared_ptr<DeviceMemory> device_memory_;
  observe::Observer &observer_;
  OpenContainer::Files files_;
  std::mutex mutex_;                                    ///< Guards what follows.
  std::unordered_map<std::uint64_t, Handle> questions_; ///< By their token.
  std::map<int, User> opening_for_;                     ///< By our thread that opens for them.
  std::vector<std::weak_ptr<Container>> containers_;    ///< All, with some that have gone.
};

} // namespace vfio_shim::cuse
