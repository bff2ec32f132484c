// Clients that have confined themselves with a seccomp filter: it judges the calls that they make,
// and no others.

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

/// From now on this process can neither receive descriptors nor make sockets, nor ask iommufd for
/// anything.
void confine_oneself() {
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
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
    throw std::system_error{errno, std::generic_category(), "PR_SET_SECCOMP"};
}

LEGACY_SUITE(Sandbox, LegacySuite);

TEST_P(Sandbox, AFilterJudgesOnlyWhatTheClientDoes) {
  const PciDevice device = topology::lone_edus(1)[0];
  run_in_child([&] {
    confine_oneself();
    const Client client{provider(), device};
    expect_dma_works(client.container, Edu{client.device});
  });
}

} // namespace
