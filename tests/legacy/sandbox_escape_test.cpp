// SPDX-License-Identifier: MIT
// A client that denies itself a system call does not get it by changing the code that a borrowed
// thread of it runs.

#include "client/seccomp.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <thread>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

/// Code that makes an ioctl, and that can be changed while it does: then it makes
/// socket(AF_UNIX, SOCK_STREAM, 0), and notes the result.
class Gate {
public:
  Gate() : room_{Memory::allocate(MemoryKind::AnonymousShared, page)} {
    put({0}, std::array<std::uint8_t, 9>{0x90,                        // nop
                                         0xb8, SYS_ioctl, 0, 0, 0,    // mov $SYS_ioctl, %eax
                                         0x0f, 0x05,                  // syscall
                                         0xc3});                      // ret
    put(trap, std::array<std::uint8_t, 21>{0xb8, SYS_socket, 0, 0, 0, // mov $SYS_socket, %eax
                                           0xbf, 1,          0, 0, 0, // mov $AF_UNIX, %edi
                                           0xbe, 1,          0, 0, 0, // mov $SOCK_STREAM, %esi
                                           0x31, 0xd2,                // xor %edx, %edx
                                           0x0f, 0x05,                // syscall
                                           0x89, 0x05});              // mov %eax, NOTE(%rip)
    constexpr Bytes behind_the_store = trap + Bytes{25};
    put(trap + Bytes{21}, static_cast<std::int32_t>((note - behind_the_store).count));
    put(behind_the_store, std::uint8_t{0xc3}); // ret
    room_.protect({0}, page, PROT_READ | PROT_WRITE | PROT_EXEC);
  }

  /// ioctl(2), if the gate does not lead elsewhere.
  long ioctl(int fd, unsigned long request, const void *argument) const {
    return reinterpret_cast<long (*)(int, unsigned long, const void *)>(room_.data())(fd, request,
                                                                                      argument);
  }

  void lead(bool to_the_trap) const {
    constexpr std::uint16_t system_call = 0x050f;
    constexpr auto jump =
        static_cast<std::uint16_t>(0xeb | ((trap - (instruction + Bytes{2})).count << 8));
    std::atomic_ref{*reinterpret_cast<std::uint16_t *>(room_.at(instruction))} =
        to_the_trap ? jump : system_call;
  }

  /// What socket() returned last; 0 if it was never called.
  int noted() const { return std::atomic_ref{*reinterpret_cast<int *>(room_.at(note))}; }

private:
  static constexpr Bytes instruction{6}, trap{64}, note{2048};

  template <typename Object>
  void put(Bytes where, const Object &what) const {
    std::memcpy(room_.at(where), &what, sizeof(what));
  }

  Memory room_;
};

LEGACY_SUITE(SandboxEscape, LegacySuite);

/// Maps through the gate while another thread changes it, until it has a socket or `end` comes.
void try_to_escape(const Provider &provider, const PciDevice &device, const Gate &gate,
                   std::chrono::steady_clock::time_point end) {
  const Client client{provider, device};
  const Memory memory{page};
  deny_oneself_sockets();
  ASSERT_EQ(::syscall(SYS_socket, 1, 1, 0), -1);
  std::jthread changer{[&](const std::stop_token &stop) {
    for (bool trap = false; !stop.stop_requested(); trap = !trap)
      gate.lead(trap);
  }};
  const auto map = map_request(some_iova, memory.data(), memory.size());
  while (gate.noted() <= 0 && std::chrono::steady_clock::now() < end) {
    (void)gate.ioctl(client.container.fd().number(), VFIO_IOMMU_MAP_DMA, &map);
    (void)client.container.unmap_all();
  }
}

TEST_P(SandboxEscape, ABorrowedThreadRunsOnlyWhatItWasToldTo) {
  const PciDevice device = topology::lone_edus(1)[0];
  const Gate gate;
  const auto end = std::chrono::steady_clock::now() + 3s;
  do {
    // Half an instruction of each kind may crash it: what it does to itself is not the point.
    Child child{[&] { try_to_escape(provider(), device, gate, end); }};
    ASSERT_TRUE(child.ends_within(10s)) << "it hangs";
    ASSERT_LE(gate.noted(), 0) << "it has a socket";
  } while (std::chrono::steady_clock::now() < end);
  expect_a_client_works(provider(), device);
}

} // namespace
