// SPDX-License-Identifier: MIT
/// @file
/// What `vfio-shim status` says of a daemon, for people and for programs.
#pragma once

#include "observe/ledger_reader.hpp"

#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim::cli {

/// The nodes that there are now below a prefix, whoever serves them.
struct Nodes {
  bool container = false;
  std::vector<GroupId> groups; ///< In order.
  std::vector<GroupId>
      kept_by_kernel{}; ///< Groups whose nodes here are the kernel's own. In order.
};

Nodes find_nodes(const std::string &prefix, const topology::Roots &roots = {});

/// Everything known of one daemon.
struct DaemonStatus {
  observe::Snapshot snapshot;
  Nodes nodes;
};

/// Several lines for people; the last one ends with a newline. Holds no control characters,
/// whatever clients call themselves.
/// @param now Tells how long ago things were.
std::string status_text(const DaemonStatus &daemon, observe::Time now);

/// Its first line: who serves what, since when.
std::string head_text(const observe::Snapshot::Daemon &daemon, observe::Time now);

/// The containers with their groups and devices, as a table.
std::string containers_text(const observe::Snapshot &snapshot, observe::Time now);

/// One element of "daemons" in the output of `status --json`.
///
/// The keys are stable: more may come, none will change its meaning. Times are ISO 8601 in UTC,
/// addresses are strings ("0x1000": JavaScript's numbers cannot hold them), the rest are numbers.
///
/// @code{.json}
/// {
///   "prefix": "vfio",                          // the nodes' directory below /dev
///   "pid": 4242,
///   "alive": true,                             // if false, the rest is what it left behind
///   "since": "2026-11-20T21:18:01Z",
///   "kernel": "7.2.13",
///   "nodes": {"container": true, "groups": [2, 6],
///             "kept_by_kernel": [7]},          // --devices, --except
///   "containers": [{
///     "id": 1,                                 // of the open file: "file" in `trace --json`
///     "client": {"pid": 1234, "command": "qemu-system-x86"},
///     "opened": "2026-11-20T21:20:00Z",
///     "iommu_type": "TYPE1v2",                 // or "TYPE1", or null: none set
///     "express": false,                        // true: it maps by itself, and nobody counts
///     "mappings": {
///       "count": 12,                           // live ones
///       "bytes": 268959744,                    // of them
///       "unrecorded": 0,                       // always: what cannot be recorded is not mapped
///       "mapped": 14, "unmapped": 2            // since the container was opened
///     },
///     "groups": [{
///       "id": 2,
///       "group": 2,
///       "client": {"pid": 1234, "command": "qemu-system-x86"},
///       "opened": "2026-11-20T21:20:00Z",
///       "devices": ["0000:00:03.0"]            // those that are open
///     }],
///     "mapping_list": [                        // with --mappings only
///       {"iova": "0x0", "vaddr": "0x7f3400000000", "size": 655360, "read": true, "write": true}
///     ]
///   }],
///   "groups_without_container": [],            // elements as in "groups"
///   "records_refused": 0,                      // calls that failed because the ledger was full
///   "records_torn": 0                          // left half-written by a daemon that died
/// }
/// @endcode
nlohmann::ordered_json status_json(const DaemonStatus &daemon,
                                   observe::LedgerReader::Mappings mappings);

} // namespace vfio_shim::cli
