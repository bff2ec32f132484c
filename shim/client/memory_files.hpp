// SPDX-License-Identifier: MIT
/// @file
/// The files by which a client is looked at, call for call.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <string>

namespace vfio_shim::client {

/// Files of /proc, each opened when it is first asked for. They are of the address space that the
/// thread had then: when that has ended, they tell nothing, least of all of another one.
class MemoryFiles {
public:
  /// @param thread Of that address space. @return ENFILE, ENOMEM: it cannot be opened now.
  ///         No file: the kernel does not let us have it.
  Result<const Fd *> maps(Tid thread);
  /// The same. No file: it cannot be opened.
  const Fd &pagemap(Tid thread);

  /// The name of the user namespace that the thread is in now. "": it is gone.
  std::string user_namespace(Tid thread);

  /// Whether it has files open.
  bool has_files() const { return maps_ || pagemap_ || link_; }

private:
  Fd maps_;
  Fd pagemap_;
  Fd link_;       ///< To the namespace: the link itself, so that it can be read again.
  Tid link_of_{}; ///< Of that very thread, not of a later one with its number.
};

} // namespace vfio_shim::client
