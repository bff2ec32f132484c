// SPDX-License-Identifier: MIT
#include "cuse/refuse_unknown.hpp"

#include <cerrno>

#include <fmt/format.h>

namespace vfio_shim::cuse {

void refuse_unknown(fuse_req_t request, const Node &node, const fuse_file_info &file,
                    observe::Observer &observer) {
  observer.warn([&] {
    return fmt::format("{}: a message about open file {}, which is not known", node.path().string(),
                       file.fh);
  });
  fuse_reply_err(request, ESTALE);
}

} // namespace vfio_shim::cuse
