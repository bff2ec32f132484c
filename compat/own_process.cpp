#include "vfio_shim/own_process.hpp"

#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace vfio_shim {

namespace {

// process_vm_*() rather than memcpy(): a bad pointer is an EFAULT, not the end of the program.
using Copier = ssize_t (*)(pid_t, const iovec *, unsigned long, const iovec *, unsigned long,
                           unsigned long);

Result<void> copy_checked(Copier copier, void *here, ClientAddr there, std::size_t size) {
  if (size == 0)
    return {};
  const iovec local{.iov_base = here, .iov_len = size};
  const iovec remote{.iov_base = reinterpret_cast<void *>(there.value), .iov_len = size};
  if (copier(::getpid(), &local, 1, &remote, 1, 0) != static_cast<ssize_t>(size))
    return fail(EFAULT, fmt::format("memory at {:#x}", there.value));
  return {};
}

} // namespace

OwnProcess::OwnProcess(std::function<std::shared_ptr<Container>(const Fd &)> find_container)
    : find_container_(std::move(find_container)) {}

std::string OwnProcess::describe() const {
  return fmt::format("self[{}]", ::getpid());
}

Pid OwnProcess::pid() const {
  return Pid{::getpid()};
}

Result<Fd> OwnProcess::process() {
  Fd self{static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0U))};
  if (!self)
    return fail_errno("pidfd_open");
  return self;
}

Result<void> OwnProcess::read(ClientAddr from, std::span<std::byte> to) {
  return copy_checked(::process_vm_readv, to.data(), from, to.size());
}

Result<void> OwnProcess::write(ClientAddr to, std::span<const std::byte> from) {
  return copy_checked(::process_vm_writev, const_cast<std::byte *>(from.data()), to, from.size());
}

Result<void> OwnProcess::ioctl_in_client(const Fd &file, unsigned long command,
                                         std::span<const std::byte> argument) {
  std::vector<std::byte> copy(argument.begin(), argument.end()); // The kernel may write to it.
  if (::ioctl(file.get(), command, copy.data()) != 0)
    return fail_errno("ioctl");
  return {};
}

Result<std::vector<MemoryPart>> OwnProcess::memory_parts(ClientAddr start, Bytes size,
                                                         Access /*access*/) {
  std::vector<MemoryPart> whole;
  whole.push_back({.start = start, .size = size, .by_file = {}});
  return whole;
}

Result<Fd> OwnProcess::copy_of(ClientFd number) {
  Fd copy{::fcntl(number.value, F_DUPFD_CLOEXEC, 0)};
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

std::shared_ptr<Container> OwnProcess::container_behind(const Fd &file) {
  return find_container_ ? find_container_(file) : nullptr;
}

Result<ClientFd> OwnProcess::hand_over(const Fd &file) {
  const int number = ::fcntl(file.get(), F_DUPFD_CLOEXEC, 0);
  if (number < 0)
    return fail_errno("F_DUPFD_CLOEXEC");
  return ClientFd{number};
}

} // namespace vfio_shim
