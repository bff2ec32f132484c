// SPDX-License-Identifier: MIT
/// @file
/// The daemon, seen from outside.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/types.h>

#include "excuses.hpp"

namespace chaos {

/// `vfio-shim serve`: the process that was started, which is the keeper, and its worker.
class Daemon {
public:
  /// Throws std::runtime_error if there is none, or if there are several and @p pid does not say
  /// which.
  static Daemon find(pid_t pid);

  /// The worker's, which may be another one the next time. 0: there is none at the moment.
  pid_t pid() const;
  /// Whether the keeper is.
  bool is_alive() const;
  /// How many descriptors of each kind the worker has: "/dev/cuse", "anon_inode:[pidfd]", "socket".
  std::map<std::string, long> descriptors() const;
  long threads() const;
  long memory_kib() const;
  /// What its own book says: how many containers and groups are open; nothing if it cannot be
  /// asked.
  std::optional<long> open_files() const;

private:
  explicit Daemon(pid_t keeper) : keeper_(keeper) {}

  pid_t keeper_;
};

/// Lowers one of the daemon's limits for its lifetime.
class Shortage {
public:
  Shortage(const Daemon &daemon, __rlimit_resource resource, rlim_t soft);
  Shortage(const Shortage &) = delete;
  Shortage &operator=(const Shortage &) = delete;
  ~Shortage();

private:
  pid_t pid_;
  __rlimit_resource resource_;
  rlimit before_{};
};

/// Has the daemon in a cgroup of its own, for its lifetime.
class DaemonsCgroup {
public:
  explicit DaemonsCgroup(const Daemon &daemon);
  DaemonsCgroup(const DaemonsCgroup &) = delete;
  DaemonsCgroup &operator=(const DaemonsCgroup &) = delete;
  ~DaemonsCgroup();

  /// Reads and writes "pids.max" and the like.
  static std::string read(const std::string &file);
  static void write(const std::string &file, const std::string &value);

private:
  pid_t pid_;
};

} // namespace chaos
