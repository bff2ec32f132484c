// SPDX-License-Identifier: MIT
#include "support/parted_client.hpp"

#include <unistd.h>

namespace vfio_shim::test {

PartedClient::PartedClient() : own_([](const Fd &) { return std::shared_ptr<Container>(); }) {}

void PartedClient::add_part(ClientAddr start, Bytes size, int file, Bytes offset) {
  parts_.push_back({start, size, file, offset});
}

void PartedClient::fail_ioctl(int call, int code) {
  calls_ = 0;
  failing_call_ = call;
  failure_ = code;
}

Result<void> PartedClient::ioctl_in_client(const Fd &file, Lending lending, unsigned long command,
                                           std::span<const std::byte> argument) {
  VFIO_SHIM_TRY(own_.ioctl_in_client(file, lending, command, argument));
  if (calls_++ == failing_call_)
    return fail(failure_, "failure wanted by the test");
  return {};
}

Result<std::vector<MemoryPart>> PartedClient::memory_parts(ClientAddr start, Bytes size,
                                                           Access access) {
  if (parts_.empty())
    return own_.memory_parts(start, size, access);
  std::vector<MemoryPart> parts;
  for (const Part &part : parts_)
    parts.push_back(
        {.start = part.start,
         .size = part.size,
         .by_file = {.file = Fd{part.file < 0 ? -1 : ::dup(part.file)}, .offset = part.offset}});
  return parts;
}

} // namespace vfio_shim::test
