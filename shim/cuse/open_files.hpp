// SPDX-License-Identifier: MIT
/// @file
/// The open files of a node, by their numbers.
#pragma once

#include "vfio_shim/units.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace vfio_shim::cuse {

/// Finds an open file by the number that the kernel brings with each of its messages (FUSE's `fh`).
/// A number that is not known finds nothing. Thread-safe; finding waits for nobody but those who
/// open and close files, for an instant.
/// @tparam File What is kept for an open file. It lives on with those who have found it.
template <typename File>
class OpenFiles {
public:
  using Handle = std::shared_ptr<File>;

  void add(FileNumber number, Handle file) {
    const std::unique_lock lock(mutex_);
    files_.emplace(number.value, std::move(file));
  }

  /// The file, or nullptr.
  Handle find(FileNumber number) const {
    const std::shared_lock lock(mutex_);
    const auto found = files_.find(number.value);
    return found == files_.end() ? nullptr : found->second;
  }

  /// As find(); from now on there is none of that number.
  Handle take(FileNumber number) {
    const std::unique_lock lock(mutex_);
    const auto taken = files_.extract(number.value);
    return taken.empty() ? nullptr : taken.mapped();
  }

  bool empty() const {
    const std::shared_lock lock(mutex_);
    return files_.empty();
  }

private:
  mutable std::shared_mutex mutex_; ///< Guards files_.
  std::unordered_map<std::uint64_t, Handle> files_;
};

} // namespace vfio_shim::cuse
