// SPDX-License-Identifier: MIT
/// @file
/// `vfio-shim status`.
#pragma once

#include "observe/ledger_directory.hpp"

#include "vfio_shim/topology.hpp"

#include <filesystem>
#include <iosfwd>
#include <string>

namespace vfio_shim::cli {

struct StatusOptions {
  std::string prefix; ///< Of the daemon to show; "": of all.
  bool json = false;
  bool mappings = false; ///< List them one by one.
  topology::Roots roots;
  std::filesystem::path ledgers = observe::ledger_directory;
};

/// Shows what the daemons' ledgers say. Asks no daemon.
///
/// With --json, prints one object: "daemons", a list of what status_json() describes, and
/// "unreadable", a list of {"prefix", "error": "EACCES", "message"}.
///
/// @return The exit status: 0 if a daemon is alive, else 1.
int status(const StatusOptions &options, std::ostream &out, std::ostream &err);

} // namespace vfio_shim::cli
