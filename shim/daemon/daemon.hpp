/// @file
/// The daemon's life: what `serve` runs in the foreground and `run` in the background.
#pragma once

#include "cuse/server.hpp"

#include "vfio_shim/result.hpp"

#include <functional>

#include "daemon/observing.hpp"

namespace vfio_shim::daemon {

/// How a daemon is to live.
struct DaemonOptions {
  cuse::ServerOptions server;
  ObservingOptions observing;
  bool remember_numbers = true;  ///< Another daemon will serve this prefix one day.
  bool take_over = false;        ///< The kernel's own nodes give way to ours.
  bool wait_for_devices = false; ///< Start even if no device is bound to a vfio driver yet.
  std::function<void()> ready;   ///< Called once, when all nodes are there.
};

/// Serves until SIGTERM or SIGINT, or, after SIGUSR1, until no client is left. Takes signals over
/// for the whole process: every thread must be started by this function.
///
/// @return An error whose `where` is one line for people: what is missing and what mends it.
Result<void> run_daemon(const DaemonOptions &options);

} // namespace vfio_shim::daemon
