// SPDX-License-Identifier: MIT
#pragma once

#include "client/provider.h"

#include <chrono>
#include <cstddef>
#include <string>

#include <gtest/gtest.h>
#include <sys/types.h>

namespace legacy {

/// What `vfio-shim status --json` says of a daemon.
struct DaemonReport {
  pid_t keeper = 0;
  /// The process that serves; 0 while there is none.
  pid_t worker = 0;
  /// How often the worker was replaced.
  int replaced = 0;
  /// Containers that are open, and groups that are open and in no container.
  std::size_t open_files = 0;
};

/// Asks for the report. Throws std::runtime_error when there is none.
DaemonReport report_on(const Provider &provider);

/// Whether no container and no group is open any more within a few seconds.
testing::AssertionResult has_nothing_open(const Provider &provider);

/// A daemon of two processes: a keeper, and a worker that is killed and replaced while clients go
/// on.
///
/// It knows the worker that it has seen last. So only one of these may be in use at a time: a child
/// that kills makes its own.
class SurvivingDaemon {
public:
  /// Throws std::runtime_error when no such daemon serves `provider`.
  explicit SurvivingDaemon(Provider provider);

  pid_t keeper() const { return last_.keeper; }
  pid_t worker() const { return last_.worker; }
  int replaced() const { return last_.replaced; }

  /// Kills the worker, and returns at once. Throws std::system_error.
  void kill_worker() const;
  /// Has the keeper replace its program and the worker, between two calls. Returns at once. Throws
  /// std::system_error.
  void ask_for_upgrade() const;
  /// The same, by `vfio-shim upgrade`. @return What that prints. Throws std::runtime_error when it
  /// fails.
  std::string upgrade() const;

  /// Whether another worker serves within `patience`, of the same keeper.
  testing::AssertionResult serves_again(std::chrono::seconds patience = default_patience);
  /// Kills the worker, and waits for the next one.
  testing::AssertionResult replace_worker();

  static constexpr std::chrono::seconds default_patience{30};

private:
  Provider provider_;
  DaemonReport last_;
};

} // namespace legacy
