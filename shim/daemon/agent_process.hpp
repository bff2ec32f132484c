// SPDX-License-Identifier: MIT
/// @file
/// The process beside a worker that supervises programs of others.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <filesystem>
#include <string>
#include <utility>

#include <sys/types.h>

namespace vfio_shim::daemon {

/// Where listeners are handed to the daemon that serves @p prefix.
std::filesystem::path agent_socket(std::string prefix);

/// An agent (supervise::serve_as_agent()), a process of its own. It ends with this one, whatever
/// becomes of it; the supervisors that it has started do not.
class AgentProcess {
public:
  /// Others can connect when this returns.
  static Result<AgentProcess> start(const std::string &prefix);

  AgentProcess(AgentProcess &&other) noexcept;
  AgentProcess(const AgentProcess &) = delete;
  AgentProcess &operator=(const AgentProcess &) = delete;
  AgentProcess &operator=(AgentProcess &&) = delete;
  /// Ends it, and removes its socket.
  ~AgentProcess();

  /// A pidfd, readable when the agent has ended.
  const Fd &process() const { return process_; }

private:
  AgentProcess(pid_t pid, Fd process, std::filesystem::path socket)
      : pid_(pid), process_(std::move(process)), socket_(std::move(socket)) {}

  pid_t pid_;
  Fd process_;
  std::filesystem::path socket_;
};

} // namespace vfio_shim::daemon
