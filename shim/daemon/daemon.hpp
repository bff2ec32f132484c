// SPDX-License-Identifier: MIT
/// @file
/// The daemon's life: what `serve` runs in the foreground and `run` in the background.
#pragma once

#include "cuse/server.hpp"

#include "vfio_shim/result.hpp"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "daemon/observing.hpp"

namespace vfio_shim::daemon {

/// How a daemon is to live.
struct DaemonOptions {
  cuse::ServerOptions server;
  ObservingOptions observing;
  bool remember_numbers = true;          ///< Another daemon will serve this prefix one day.
  bool take_over = false;                ///< The kernel's own nodes give way to ours.
  bool wait_for_devices = false;         ///< Start even if no device is bound to a vfio driver yet.
  std::filesystem::path cdi_directory{}; ///< For the CdiFile; "": none.
  bool supervise_others = false;         ///< Whoever asks for it. See AgentProcess.
  std::function<void()> ready;           ///< Called once, when all nodes are there.
  /// The program and its arguments, with which SIGHUP starts it anew. Empty: SIGHUP does nothing.
  std::vector<std::string> command{};
  std::function<bool()> may_follow{}; ///< See keeper::Keeper::Upgrade.
};

/// Serves until SIGTERM or SIGINT, or, after SIGUSR1, until no client is left; after SIGHUP another
/// program goes on. This process becomes the keeper, a child of it the worker. The process must
/// have one thread, and signals are taken over.
///
/// @return The exit status. Or an error whose `where` is one line for people: what is missing and
///         what mends it; what a worker says, it says itself.
Result<int> run_daemon(const DaemonOptions &options);

} // namespace vfio_shim::daemon
