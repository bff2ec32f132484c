/// @file
/// Telling whether a file that was given away is still open.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <cstdint>

namespace vfio_shim {

/// A mark on an open file that stays as long as anybody has it open, in whatever process.
///
/// It is an open file description lock on one byte of the inode that all anonymous files of the
/// kernel share (a VFIO device's file is one): the kernel drops it with the last descriptor. A
/// holder that unlocks all of its file removes the mark; that deceives only about its own device.
class OpenFileMark {
public:
  /// Marks @p file, which must be an anonymous one.
  static Result<OpenFileMark> put(const Fd &file);

  /// Whether the file is open anywhere.
  bool still_open() const;

private:
  explicit OpenFileMark(std::int64_t byte) : byte_(byte) {}

  std::int64_t byte_;
};

} // namespace vfio_shim
