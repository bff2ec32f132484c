// SPDX-License-Identifier: MIT
#include "client/memory_files.hpp"

#include "client/process_handle.hpp"

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>

#include "shortage.hpp"

namespace vfio_shim::client {

namespace {

Fd open_file(Tid thread, const char *name) {
  return Fd{::open(fmt::format("/proc/{}/{}", thread.value, name).c_str(), O_RDONLY | O_CLOEXEC)};
}

} // namespace

Result<const Fd *> MemoryFiles::maps(Tid thread) {
  if (!maps_)
    maps_ = open_file(thread, "maps");
  if (!maps_ && is_shortage(errno))
    return fail_for_want_of_descriptors("opening the client's list of mappings");
  return &maps_;
}

const Fd &MemoryFiles::pagemap(Tid thread) {
  if (!pagemap_)
    pagemap_ = open_file(thread, "pagemap");
  return pagemap_;
}

} // namespace vfio_shim::client
