// SPDX-License-Identifier: MIT
#include "client/memory_files.hpp"

#include "client/process_handle.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "shortage.hpp"

namespace vfio_shim::client {

namespace {

/// What @p link, or the link @p name in it, says. "": nothing.
std::string read_link(const Fd &link, const std::string &name = {}) {
  std::array<char, 64> text{};
  const ssize_t length =
      ::readlinkat(link ? link.get() : AT_FDCWD, name.c_str(), text.data(), text.size());
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
}

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

/// To find the link anew costs five times as much as to read it.
std::string MemoryFiles::user_namespace(Tid thread) {
  if (link_ && link_of_ == thread)
    if (std::string name = read_link(link_); !name.empty())
      return name;
  const std::string path = fmt::format("/proc/{}/ns/user", thread.value);
  link_ = Fd{::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
  link_of_ = thread;
  return link_ ? read_link(link_) : read_link({}, path);
}

const Fd &MemoryFiles::pagemap(Tid thread) {
  if (!pagemap_)
    pagemap_ = open_file(thread, "pagemap");
  return pagemap_;
}

} // namespace vfio_shim::client
