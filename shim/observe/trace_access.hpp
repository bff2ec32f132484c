/// @file
/// What the fixed-size parts of a record hold.
#pragma once

#include "observe/trace_layout.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace vfio_shim::observe::trace {

/// The struct that the argument pointed to when the call began; what was not read is 0.
template <typename Struct>
Struct argument_of(const Record &record) {
  static_assert(sizeof(Struct) <= most_bytes);
  Struct argument{};
  std::memcpy(&argument, record.before.data(), sizeof(argument));
  return argument;
}

/// The same struct as the call left it.
template <typename Struct>
Struct answer_of(const Record &record) {
  static_assert(sizeof(Struct) <= most_bytes);
  Struct answer{};
  std::memcpy(&answer, record.after.data(), sizeof(answer));
  return answer;
}

/// The stretches of memory that the record has room for, of all that the call was about.
inline std::span<const Memory> known_memory(const Record &record) {
  return std::span(record.memory).first(std::min<std::size_t>(record.stretches, most_memory));
}

} // namespace vfio_shim::observe::trace
