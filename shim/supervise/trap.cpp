// SPDX-License-Identifier: MIT
#include "supervise/trap.hpp"

#include "client/calling_thread.hpp"

#include <array>
#include <cstddef>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::supervise {

namespace {

constexpr std::uint32_t offset_of_argument(unsigned int index) {
  // The lower half: the kernel, too, takes a descriptor and an ioctl's number as 32-bit numbers.
  return offsetof(seccomp_data, args) + index * sizeof(std::uint64_t);
}

constexpr sock_filter load(std::uint32_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset);
}
/// Skips @p if_equal or @p if_not instructions.
constexpr sock_filter is(std::uint32_t number, std::uint8_t if_equal, std::uint8_t if_not) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, if_equal, if_not);
}
constexpr sock_filter is_at_least(std::uint32_t number, std::uint8_t if_so, std::uint8_t if_not) {
  return BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, number, if_so, if_not);
}
constexpr sock_filter decide(std::uint32_t action) {
  return BPF_STMT(BPF_RET | BPF_K, action);
}

constexpr std::uint32_t least_number = client::least_supervised.value;

constexpr std::array<sock_filter, 13> program = {
    load(offsetof(seccomp_data, arch)),           // 0
    is(AUDIT_ARCH_X86_64, 0, 9),                  // 1
    load(offsetof(seccomp_data, nr)),             // 2
    is(SYS_ioctl, 0, 7),                          // 3
    load(offset_of_argument(1)),                  // 4
    is(KVM_SET_DEVICE_ATTR, 6, 0),                // 5
    is(VFIO_IOMMU_DIRTY_PAGES, 5, 0),             // 6
    is(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, 1, 0), // 7
    is(VFIO_DEVICE_PCI_HOT_RESET, 0, 2),          // 8
    load(offset_of_argument(0)),                  // 9
    is_at_least(least_number, 1, 0),              // 10
    decide(SECCOMP_RET_ALLOW),                    // 11
    decide(SECCOMP_RET_USER_NOTIF),               // 12
};

} // namespace

Result<Fd> trap_ioctls() {
  const sock_fprog filter{.len = program.size(),
                          .filter = const_cast<sock_filter *>(program.data())};
  // Once a call was taken, only death ends its wait: so its thread can be borrowed (interrupted).
  constexpr unsigned int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER |
                                 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV |
                                 SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  Fd listener{static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter))};
  if (!listener)
    return fail_errno("seccomp");
  return listener;
}

bool can_suspend_traps() {
  // Both are there with CONFIG_CHECKPOINT_RESTORE only.
  return ::access("/proc/sys/kernel/ns_last_pid", F_OK) == 0;
}

Listener::News Listener::wait(std::chrono::milliseconds patience) const {
  pollfd poll{.fd = file_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&poll, 1, static_cast<int>(patience.count())) <= 0)
    return News::none;
  return (poll.revents & POLLIN) != 0 ? News::call : News::end;
}

std::optional<TrappedCall> Listener::take() const {
  seccomp_notif notification{};
  if (::ioctl(file_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0)
    return std::nullopt;
  return TrappedCall{.id = notification.id,
                     .thread = Tid{static_cast<int>(notification.pid)},
                     .file = ClientFd{static_cast<int>(notification.data.args[0])},
                     .command = static_cast<unsigned int>(notification.data.args[1]),
                     .argument = notification.data.args[2],
                     .is_ioctl = notification.data.arch == AUDIT_ARCH_X86_64 &&
                                 notification.data.nr == SYS_ioctl};
}

bool Listener::waits(const TrappedCall &call) const {
  std::uint64_t id = call.id;
  return ::ioctl(file_.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

bool Listener::answer(const TrappedCall &call, long result) const {
  seccomp_notif_resp response{};
  response.id = call.id;
  response.val = result < 0 ? 0 : result;
  response.error = result < 0 ? static_cast<int>(result) : 0;
  return ::ioctl(file_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) == 0; // ENOENT: it was killed.
}

Result<ClientFd> Listener::install(const TrappedCall &call, const Fd &file) const {
  seccomp_notif_addfd request{};
  request.id = call.id;
  request.srcfd = static_cast<std::uint32_t>(file.get());
  request.newfd_flags = O_CLOEXEC;
  const int number = ::ioctl(file_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request);
  if (number < 0)
    return fail_errno("SECCOMP_IOCTL_NOTIF_ADDFD");
  return ClientFd{number};
}

Result<void> Listener::replace(const TrappedCall &call, const Fd &file, bool close_on_exec) const {
  seccomp_notif_addfd request{};
  request.id = call.id;
  request.flags = SECCOMP_ADDFD_FLAG_SETFD;
  request.srcfd = static_cast<std::uint32_t>(file.get());
  request.newfd = static_cast<std::uint32_t>(call.file.value);
  request.newfd_flags = close_on_exec ? O_CLOEXEC : 0;
  if (::ioctl(file_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request) < 0)
    return fail_errno("SECCOMP_IOCTL_NOTIF_ADDFD");
  return {};
}

void Listener::let_through(const TrappedCall &call) const {
  seccomp_notif_resp response{};
  response.id = call.id;
  response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ::ioctl(file_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

} // namespace vfio_shim::supervise
