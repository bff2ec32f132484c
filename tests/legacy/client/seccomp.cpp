// SPDX-License-Identifier: MIT
#include "seccomp.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "answer.h"

namespace legacy {
namespace {

void confine_oneself(std::span<sock_filter> program) {
  const sock_fprog filter{.len = static_cast<unsigned short>(program.size()),
                          .filter = program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    throw_errno("PR_SET_NO_NEW_PRIVS");
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
    throw_errno("PR_SET_SECCOMP");
}

} // namespace

void deny_oneself_sockets() {
  std::array program{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  confine_oneself(program);
}

void forbid_oneself_borrowed_calls() {
  constexpr auto iommufd_type = static_cast<std::uint32_t>(';');
  constexpr std::uint32_t number = offsetof(seccomp_data, nr);
  constexpr std::uint32_t command = offsetof(seccomp_data, args) + sizeof(std::uint64_t);
  constexpr std::uint32_t first_of_iommufd = (iommufd_type << 8) | 0x80;
  std::array program{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 6, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvmsg, 5, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, command),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first_of_iommufd, 0, 1),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, first_of_iommufd + 0x1f, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  confine_oneself(program);
}

} // namespace legacy
