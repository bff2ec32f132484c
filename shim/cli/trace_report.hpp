// SPDX-License-Identifier: MIT
/// @file
/// What `vfio-shim trace` says of a recording, for people, for programs and for Perfetto.
#pragma once

#include "observe/trace_layout.hpp"
#include "observe/trace_reader.hpp"

#include <iosfwd>
#include <nlohmann/json_fwd.hpp>

namespace vfio_shim::cli {

/// A line for each call. Holds no control characters, whatever clients put into their names.
void print_trace_text(const observe::Recording &recording, std::ostream &out);

/// A call as one line of `trace --json`.
///
/// The keys are stable: more may come, none will change its meaning. Durations are in nanoseconds,
/// addresses are strings.
///
/// @code{.json}
/// {
///   "sequence": 12,                            // the order in which calls began
///   "time": "2026-11-20T21:18:01.123456789Z",
///   "at": 123456,                              // nanoseconds after the recording began
///   "pid": 1234, "thread": 1234, "client": "qemu-system-x86",
///   "file": 3,                                 // the open file, counted from 1
///   "node": "container",                       // or "group", then with "group": 12
///   "call": "VFIO_IOMMU_MAP_DMA",              // or "open", "close", "ioctl 0x1234"
///   "command": 15217, "argument": "0x7ffd1234", // of an ioctl
///   "before": "20000000...", "after": "...",   // what the argument points to, hexadecimal
///   "text": "iova 0x0, 256 MiB at 0x7f0000000000, rw",
///   "container": 1,                            // of VFIO_GROUP_SET_CONTAINER: the file it named
///   "memory": [{"kind": "shmem", "size": 4096, "page_size": 4096, "shared": true,
///               "by_file": true}],             // the first four stretches
///   "result": 0, "errno": 0, "error": "",      // -1, 17, "EEXIST"
///   "took": {"total": 9000, "in": 500, "borrow": 0, "kernel": 3000, "out": 400}
/// }
/// @endcode
nlohmann::ordered_json trace_json(const observe::Recording &recording,
                                  const observe::trace::Record &record);

/// The recording in Chrome's trace event format, which Perfetto's viewer opens: a slice for each
/// call, by process and thread, and how many bytes each container has mapped.
void print_trace_chrome(const observe::Recording &recording, std::ostream &out);

} // namespace vfio_shim::cli
