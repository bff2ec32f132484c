// SPDX-License-Identifier: MIT
/// @file
/// USDT probes: places where bpftrace, perf or gdb can look at a call. A probe is one nop until
/// somebody does.
///
/// Provider `vfio_shim`; what the arguments are is said in docs/observing.md.
#pragma once

#include <sys/sdt.h>

#define VFIO_SHIM_PROBE_CALL_ENTRY(sequence, thread, file, command, argument)                      \
  DTRACE_PROBE5(vfio_shim, call_entry, sequence, thread, file, command, argument)
#define VFIO_SHIM_PROBE_CALL_RETURN(sequence, thread, command, result, error, nanoseconds)         \
  DTRACE_PROBE6(vfio_shim, call_return, sequence, thread, command, result, error, nanoseconds)
#define VFIO_SHIM_PROBE_BORROW_BEGIN(sequence, thread)                                             \
  DTRACE_PROBE2(vfio_shim, borrow_begin, sequence, thread)
#define VFIO_SHIM_PROBE_BORROW_END(sequence, thread)                                               \
  DTRACE_PROBE2(vfio_shim, borrow_end, sequence, thread)
#define VFIO_SHIM_PROBE_BACKEND_BEGIN(sequence, command)                                           \
  DTRACE_PROBE2(vfio_shim, backend_begin, sequence, command)
#define VFIO_SHIM_PROBE_BACKEND_END(sequence, command, error)                                      \
  DTRACE_PROBE3(vfio_shim, backend_end, sequence, command, error)
