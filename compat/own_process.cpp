// SPDX-License-Identifier: MIT
#include "vfio_shim/own_process.hpp"

#include "vfio_shim/process_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim {

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
  return read_memory(Tid{::getpid()}, from, to);
}

Result<void> OwnProcess::write(ClientAddr to, std::span<const std::byte> from) {
  return write_memory(Tid{::getpid()}, to, from);
}

Result<void> OwnProcess::ioctl_in_client(const Fd &file, Lending /*lending*/, unsigned long command,
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

Result<std::shared_ptr<Container>> OwnProcess::container_behind(const Fd &file) {
  return find_container_ ? find_container_(file) : nullptr;
}

Result<ClientFd> OwnProcess::hand_over(const Fd &file) {
  Fd copy = file.duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return ClientFd{copy.release()};
}

} // namespace vfio_shim
