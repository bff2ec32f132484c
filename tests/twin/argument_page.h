// SPDX-License-Identifier: MIT
#pragma once

#include "client/memory.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "operation.h"

namespace twin {

/// The place for an ioctl's argument, at the very end of what is mapped; it tells what a call
/// changed.
class ArgumentPage {
public:
  ArgumentPage();

  /// Puts an argument in, and answers its address.
  void *put(std::span<const std::byte> argument, Place place);

  /// Bytes that are not as they were put, by their offset from the argument's start.
  std::map<std::int64_t, std::byte> changes() const;

  /// The first bytes of what lies there now.
  template <typename T>
  T get() const {
    T value{};
    get_bytes(std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }

private:
  void get_bytes(std::span<std::byte> bytes) const;

  legacy::Memory memory_; ///< One page, and one that nobody may touch.
  std::vector<std::byte> before_;
  std::byte *start_ = nullptr;
  bool read_only_ = false;
};

} // namespace twin
