// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>

namespace legacy {

/// What a thread owns and a system call must give back unchanged: the general registers but rax,
/// rcx and r11, a vector register, and the 128 bytes below the stack pointer ("red zone").
struct ThreadState {
  /// rbx, rbp, r8, r9, r10, r12, r13, r14, r15, and the call's arguments rdi, rsi, rdx.
  std::array<std::uint64_t, 12> registers{};
  std::array<std::uint64_t, 16> red_zone{};
  std::array<std::uint64_t, 2> vector{};

  /// Different numbers everywhere, but for the call's arguments.
  static ThreadState distinctive();

  friend bool operator==(const ThreadState &, const ThreadState &) = default;
};

/// Makes the system call ioctl(fd, request, argument) with all of `state` in place, and puts into
/// `after` what is there when the call is back. The arguments are added to `state` first.
/// Returns what the kernel returned: -errno for a failure.
long ioctl_with(ThreadState &state, ThreadState &after, int fd, unsigned long request,
                const void *argument);

} // namespace legacy
