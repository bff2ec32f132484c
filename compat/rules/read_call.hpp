// SPDX-License-Identifier: MIT
/// @file
/// From a client's ioctl to the value that it means.
#pragma once

#include "rules/legacy_call.hpp"
#include "rules/operations.hpp"

#include "vfio_shim/client.hpp"
#include "vfio_shim/result.hpp"

#include <cstdint>

namespace vfio_shim::rules {

/// Reads an operation's argument from the client, each byte once, and decodes it. The client may
/// make this wait for ever.
/// @param value The ioctl's third argument, as the client gave it.
/// @return EFAULT: the argument cannot be read. EINVAL: argsz is too small, or the string is longer
///         than a page.
Result<LegacyCall> read_call(const Operation &operation, Client &client, std::uint64_t value);

} // namespace vfio_shim::rules
