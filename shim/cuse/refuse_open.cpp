// SPDX-License-Identifier: MIT
#include "cuse/refuse_open.hpp"

#include "client/calling_thread.hpp"

#include <fmt/format.h>

namespace vfio_shim::cuse {

void refuse_open(fuse_req_t request, const Node &node, Pid client, const Error &error,
                 observe::Observer &observer) {
  // While the client waits it is there, and its name can be read.
  observer.warn([&] {
    return fmt::format("{}: open of {}: {}", client::describe_process(client), node.path().string(),
                       error.describe());
  });
  fuse_reply_err(request, error.code);
}

} // namespace vfio_shim::cuse
