// SPDX-License-Identifier: MIT
/// @file
/// What becomes of a message about a file that is not open here.
#pragma once

#include "cuse/node.hpp"
#include "observe/observer.hpp"

#include <fuse_lowlevel.h>

namespace vfio_shim::cuse {

/// Answers with ESTALE, and warns of it: the kernel and the daemon disagree about what is open.
void refuse_unknown(fuse_req_t request, const Node &node, const fuse_file_info &file,
                    observe::Observer &observer);

} // namespace vfio_shim::cuse
