// SPDX-License-Identifier: MIT
/// @file
/// What becomes of an open() that is not granted.
#pragma once

#include "cuse/node.hpp"
#include "observe/observer.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <fuse_lowlevel.h>

namespace vfio_shim::cuse {

/// Answers an open of @p node by @p client with an error, and warns of it.
void refuse_open(fuse_req_t request, const Node &node, Pid client, const Error &error,
                 observe::Observer &observer);

} // namespace vfio_shim::cuse
