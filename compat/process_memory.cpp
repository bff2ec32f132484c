// SPDX-License-Identifier: MIT
#include "vfio_shim/process_memory.hpp"

#include <fmt/format.h>
#include <sys/uio.h>

namespace vfio_shim {

namespace {

using Copier = ssize_t (*)(pid_t, const iovec *, unsigned long, const iovec *, unsigned long,
                           unsigned long);

Result<void> copy(Copier copier, const char *what, Tid thread, void *here, ClientAddr there,
                  std::size_t size) {
  if (size == 0)
    return {};
  const iovec local{.iov_base = here, .iov_len = size};
  const iovec remote{.iov_base = reinterpret_cast<void *>(there.value), .iov_len = size};
  const ssize_t copied = copier(thread.value, &local, 1, &remote, 1, 0);
  if (copied < 0)
    return fail_errno(fmt::format("{} {:#x}", what, there.value));
  if (static_cast<std::size_t>(copied) != size)
    return fail(EFAULT, fmt::format("{} {:#x}+{:#x}", what, there.value, copied));
  return {};
}

} // namespace

Result<void> read_memory(Tid thread, ClientAddr from, std::span<std::byte> to) {
  return copy(::process_vm_readv, "reading client memory", thread, to.data(), from, to.size());
}

Result<void> write_memory(Tid thread, ClientAddr to, std::span<const std::byte> from) {
  return copy(::process_vm_writev, "writing client memory", thread,
              const_cast<std::byte *>(from.data()), to, from.size());
}

} // namespace vfio_shim
