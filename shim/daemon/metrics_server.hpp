// SPDX-License-Identifier: MIT
/// @file
/// Serves metrics over HTTP.
#pragma once

#include "observe/ledger_reader.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <filesystem>
#include <memory>
#include <string>

struct MHD_Daemon;

namespace vfio_shim::daemon {

/// Answers GET /metrics, from the daemon's shared memory and in a thread of its own: no call ever
/// waits for it.
class MetricsServer {
public:
  /// @param address "[HOST]:PORT", or the path of a Unix socket (anything with a '/').
  /// @param ledger Of this daemon.
  /// @return EINVAL: no such address. The errno of listening there. `where` is for people.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string &address,
                                                      observe::LedgerReader ledger);

  MetricsServer(const MetricsServer &) = delete;
  MetricsServer &operator=(const MetricsServer &) = delete;
  ~MetricsServer();

  std::string answer() const;

private:
  explicit MetricsServer(observe::LedgerReader ledger) : ledger_(std::move(ledger)) {}

  observe::LedgerReader ledger_;
  std::filesystem::path socket_; ///< Of a Unix socket: to be removed.
  MHD_Daemon *http_ = nullptr;
};

} // namespace vfio_shim::daemon
