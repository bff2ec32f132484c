// SPDX-License-Identifier: MIT
/// @file
/// What the fixed-size parts of a record hold.
#pragma once

#include "observe/trace_layout.hpp"
#include "rules/operations.hpp"

#include <algorithm>
#include <span>

namespace vfio_shim::observe::trace {

/// The ioctl as the client made it; what was not read of its argument is 0. Of an open() or a
/// close(), an UnknownCall.
inline rules::LegacyCall call_of(const Record &record) {
  return rules::decode(record.command, record.argument,
                       std::span(record.before).first(record.was_read));
}

/// The same ioctl with its argument as it was left.
inline rules::LegacyCall answer_of(const Record &record) {
  return rules::decode(record.command, record.argument, record.after);
}

/// Whether the call answers with a descriptor, whose number says nothing.
inline bool answers_with_descriptor(const Record &record) {
  return record.kind != Kind::call || std::holds_alternative<rules::GetDeviceFd>(call_of(record));
}

/// The stretches of memory that the record has room for, of all that the call was about.
inline std::span<const Memory> known_memory(const Record &record) {
  return std::span(record.memory).first(std::min<std::size_t>(record.stretches, most_memory));
}

} // namespace vfio_shim::observe::trace
