// SPDX-License-Identifier: MIT
/// @file
/// What a daemon notes of its calls.
#pragma once

#include "observe/observer.hpp"
#include "observe/recorder.hpp"
#include "observe/shared_ledger.hpp"
#include "observe/usage_keeper.hpp"

#include "vfio_shim/result.hpp"

#include <memory>
#include <string>
#include <string_view>

#include "daemon/metrics_server.hpp"
#include "daemon/state_directory.hpp"

namespace vfio_shim::daemon {

/// What is wanted of it.
struct ObservingOptions {
  std::string record;                          ///< The file to record to; "": none.
  std::string metrics;                         ///< The address to serve metrics at; "": none.
  std::string state = default_state_directory; ///< Where the usage book is; "": none is kept.

  /// Whether anything is asked for that only a daemon of one's own can do.
  bool need_own_daemon() const { return !record.empty() || !metrics.empty(); }
};

/// Everything that watches a daemon's calls, from its start to its end.
class Observing {
public:
  /// Starts threads: signals must be as they are to stay.
  /// @param backend What carries the calls out.
  /// @param ledger Outlives this object.
  /// @param go_on With what a worker before has begun.
  static Result<std::unique_ptr<Observing>> start(const ObservingOptions &options,
                                                  const std::string &prefix,
                                                  std::string_view backend,
                                                  observe::SharedLedger &ledger, bool go_on);

  observe::Observer &observer() { return *observer_; }

  /// Serves metrics, for a worker that goes on: only once the one before has let go of the address.
  void serve_metrics(const ObservingOptions &options, const std::string &prefix);

  /// Writes down what is left, although calls may still be under way: they are observed no more.
  void finish();
  /// Writes down what there is. Another worker goes on.
  void pause();

private:
  Observing() = default;

  std::unique_ptr<observe::Recorder> recorder_;
  std::unique_ptr<observe::UsageKeeper> usage_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<observe::Observer> observer_;
};

} // namespace vfio_shim::daemon
