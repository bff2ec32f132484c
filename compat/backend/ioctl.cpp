// SPDX-License-Identifier: MIT
#include "backend/ioctl.hpp"

#include "vfio_shim/call_witness.hpp"

#include <sys/ioctl.h>

namespace vfio_shim {

Result<void> run_ioctl(const Fd &file, unsigned long command, void *argument, const char *what) {
  CallWitness &witness = CallWitness::current();
  witness.kernel_entered(command);
  const int error = ::ioctl(file.get(), command, argument) == 0 ? 0 : errno;
  witness.kernel_left(command, error);
  if (error != 0)
    return fail(error, what);
  return {};
}

Result<void> map_in_client(Client &client, const Fd &file, Lending lending, unsigned long command,
                           std::span<const std::byte> argument) {
  auto mapped = client.ioctl_in_client(file, lending, command, argument);
  if (!mapped && mapped.error().code == EOVERFLOW)
    return fail(EFAULT, mapped.error().where);
  return mapped;
}

} // namespace vfio_shim
