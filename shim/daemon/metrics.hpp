// SPDX-License-Identifier: MIT
/// @file
/// What a daemon does, in Prometheus' format.
#pragma once

#include "observe/ledger_reader.hpp"

#include <string>

namespace vfio_shim::daemon {

/// Prometheus' text format, version 0.0.4, of what the ledger and the statistics say now. All names
/// begin with "vfio_shim_".
std::string metrics_text(const observe::LedgerReader &ledger);

} // namespace vfio_shim::daemon
