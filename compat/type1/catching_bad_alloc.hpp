// SPDX-License-Identifier: MIT
/// @file
/// What becomes of a call that there is no memory for.
#pragma once

#include "vfio_shim/result.hpp"

#include <cerrno>
#include <new>

namespace vfio_shim::type1 {

/// Serves a call with @p serve. @return ENOMEM: it ran out of memory of ours.
template <typename Serve>
Result<long> catching_bad_alloc(Serve serve) {
  try {
    return serve();
  } catch (const std::bad_alloc &) {
    return fail(ENOMEM, "our memory");
  }
}

} // namespace vfio_shim::type1
