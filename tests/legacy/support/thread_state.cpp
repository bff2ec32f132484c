// SPDX-License-Identifier: MIT
#include "thread_state.h"

#include <cstddef>

static_assert(offsetof(legacy::ThreadState, red_zone) == 96);
static_assert(offsetof(legacy::ThreadState, vector) == 224);

// long legacy_ioctl_with(const ThreadState *rdi, ThreadState *rsi, fd rdx, request rcx, argument
// r8)
//
// Only the stack pointer is relied on across the system call: it points at the saved rsi.
asm(R"(
    .text
    .type legacy_ioctl_with, @function
legacy_ioctl_with:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    push %rsi
    mov %rdi, %rax

    .set legacy_at, 0
    .rept 16
    mov 96+legacy_at(%rax), %r9
    mov %r9, legacy_at-128(%rsp)
    .set legacy_at, legacy_at+8
    .endr
    movdqu 224(%rax), %xmm7

    mov %rdx, %rdi
    mov %rcx, %rsi
    mov %r8, %rdx
    mov 0(%rax), %rbx
    mov 8(%rax), %rbp
    mov 16(%rax), %r8
    mov 24(%rax), %r9
    mov 32(%rax), %r10
    mov 40(%rax), %r12
    mov 48(%rax), %r13
    mov 56(%rax), %r14
    mov 64(%rax), %r15
    mov $16, %eax
    syscall

    mov (%rsp), %rcx
    mov %rbx, 0(%rcx)
    mov %rbp, 8(%rcx)
    mov %r8, 16(%rcx)
    mov %r9, 24(%rcx)
    mov %r10, 32(%rcx)
    mov %r12, 40(%rcx)
    mov %r13, 48(%rcx)
    mov %r14, 56(%rcx)
    mov %r15, 64(%rcx)
    mov %rdi, 72(%rcx)
    mov %rsi, 80(%rcx)
    mov %rdx, 88(%rcx)
    .set legacy_at, 0
    .rept 16
    mov legacy_at-128(%rsp), %r9
    mov %r9, 96+legacy_at(%rcx)
    .set legacy_at, legacy_at+8
    .endr
    movdqu %xmm7, 224(%rcx)

    add $8, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size legacy_ioctl_with, .-legacy_ioctl_with
)");

extern "C" long legacy_ioctl_with(const legacy::ThreadState *state, legacy::ThreadState *after,
                                  std::uint64_t fd, std::uint64_t request, std::uint64_t argument);

namespace legacy {

ThreadState ThreadState::distinctive() {
  ThreadState state;
  std::uint64_t next = 0x1122334455667700;
  for (std::uint64_t &value : state.registers)
    value = next++;
  for (std::uint64_t &value : state.red_zone)
    value = next++;
  for (std::uint64_t &value : state.vector)
    value = next++;
  return state;
}

long ioctl_with(ThreadState &state, ThreadState &after, int fd, unsigned long request,
                const void *argument) {
  state.registers[9] = static_cast<std::uint64_t>(fd);
  state.registers[10] = request;
  state.registers[11] = reinterpret_cast<std::uint64_t>(argument);
  return legacy_ioctl_with(&state, &after, state.registers[9], request, state.registers[11]);
}

} // namespace legacy
