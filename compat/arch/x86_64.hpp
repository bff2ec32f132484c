// SPDX-License-Identifier: MIT
/// @file
/// The particulars of x86-64: its registers, its system call instruction, and the code of ours that
/// a client's thread runs.
#pragma once

#include "vfio_shim/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include <linux/audit.h>
#include <sys/syscall.h>
#include <sys/user.h>

namespace vfio_shim::arch {

using Registers = user_regs_struct;

inline constexpr std::uint32_t audit_arch = AUDIT_ARCH_X86_64;

inline constexpr std::array<std::byte, 2> syscall_instruction = {std::byte{0x0f}, std::byte{0x05}};

/// In orig_rax: the thread is in no system call.
inline constexpr std::uint64_t no_system_call = ~std::uint64_t{0};

/// A system call that a thread is to make.
struct SystemCall {
  std::uint64_t number;
  std::array<std::uint64_t, 6> arguments;
};

/// @p thread, about to make @p call by the syscall instruction that ends at @p end.
inline Registers about_to_make(const SystemCall &call, ClientAddr end, Registers thread) {
  thread.rip = end.value - syscall_instruction.size();
  thread.rax = call.number;
  thread.orig_rax = no_system_call; // Nothing to restart: this is a new call.
  thread.rdi = call.arguments[0];
  thread.rsi = call.arguments[1];
  thread.rdx = call.arguments[2];
  thread.r10 = call.arguments[3];
  thread.r8 = call.arguments[4];
  thread.r9 = call.arguments[5];
  return thread;
}

/// @p thread, which has entered a system call by the syscall instruction that ends at @p end, in
/// @p call instead.
inline Registers in(const SystemCall &call, ClientAddr end, Registers thread) {
  constexpr std::uint64_t not_made_yet = ~std::uint64_t{37}; // -ENOSYS
  thread = about_to_make(call, end, thread);
  thread.rip = end.value;
  thread.rax = not_made_yet;
  thread.orig_rax = call.number;
  return thread;
}

/// The descriptor that the ioctl is on which @p thread has made.
inline ClientFd file_of_ioctl(const Registers &thread) {
  return ClientFd{static_cast<int>(thread.rdi)};
}

/// An ioctl like the one that @p thread has made, but on no file.
inline SystemCall ioctl_on_nothing(const Registers &thread) {
  return {
      .number = SYS_ioctl,
      .arguments = {~std::uint64_t{0}, thread.rsi, thread.rdx, thread.r10, thread.r8, thread.r9}};
}

/// The data that a borrowed thread needs when its tracer has died: ClientCode works with it.
struct Mending {
  /// Descriptors that a borrowed call can leave behind.
  static constexpr std::size_t descriptor_count = 4;
  /// The one of these whose number is `duplicate`.
  static constexpr std::size_t the_duplicate = 3;
  static constexpr std::int32_t no_descriptor = -1;

  /// The addresses of their numbers, of 32 bits each, as the kernel writes them.
  std::array<std::uint64_t, descriptor_count> descriptors;
  // What the thread goes on with.
  std::uint64_t rdi;
  std::uint64_t rsi;
  std::uint64_t rdx;
  std::uint64_t r10;
  std::uint64_t r8;
  std::uint64_t r9;
  std::uint64_t rax;
  std::uint64_t rip;
  std::uint64_t signal_mask;
  /// The number of the call whose result this holds; 0: it holds none, and the call is made again.
  std::uint64_t answered;
  std::int32_t duplicate; ///< What a call at ClientCode::duplicate_end has returned.
  std::int32_t none;      ///< no_descriptor, for `descriptors` to point to.
};

/// The Mending of a thread that makes its system call once more. It has no descriptors to close
/// yet.
inline Mending to_call_again(const Registers &thread, std::uint64_t signal_mask) {
  return {.descriptors = {},
          .rdi = thread.rdi,
          .rsi = thread.rsi,
          .rdx = thread.rdx,
          .r10 = thread.r10,
          .r8 = thread.r8,
          .r9 = thread.r9,
          .rax = thread.orig_rax,
          .rip = thread.rip - syscall_instruction.size(),
          .signal_mask = signal_mask,
          .answered = 0,
          .duplicate = Mending::no_descriptor,
          .none = Mending::no_descriptor};
}

/// @p thread, which was interrupted in a system call, as the kernel would let it go on: a call that
/// had done nothing yet is made again.
inline Registers going_on(Registers thread) {
  constexpr std::int64_t restart_sys = -512; // include/linux/errno.h
  constexpr std::int64_t restart_no_hand = -514;
  constexpr std::int64_t restart_block = -516;
  const auto result = static_cast<std::int64_t>(thread.rax);
  if (result == restart_block || (result >= restart_no_hand && result <= restart_sys)) {
    thread.rax = result == restart_block ? SYS_restart_syscall : thread.orig_rax;
    thread.rip -= syscall_instruction.size();
  }
  thread.orig_rax = no_system_call;
  return thread;
}

/// The Mending of a thread that goes on like that.
inline Mending to_go_on(const Registers &thread, std::uint64_t signal_mask) {
  const Registers going = going_on(thread);
  Mending mending = to_call_again(thread, signal_mask);
  mending.rax = going.rax;
  mending.rip = going.rip;
  return mending;
}

/// Machine code of ours in a client. Its borrowed thread makes its system calls from here, and is
/// stopped wherever the code would go on.
///
/// It goes on if its tracer dies. Then it closes what has been left behind, takes back its signal
/// mask and its registers, and leaves; a thread of ours that it has made ends itself. A call that
/// makes a descriptor, or closes one, is followed by the note of that: so there is no instant
/// between two calls at which it would be left behind, or closed twice.
///
/// The code changes no register but those that the kernel changes in each system call (rax, rcx,
/// r11), and those that are taken back. It does not need the flags, but where a thread is made.
class ClientCode {
public:
  /// @param mending Where the Mending lies, from the start of the code.
  /// @param descriptors How many of its descriptors are closed. With none, it is only read.
  explicit constexpr ClientCode(Bytes mending, std::size_t descriptors = Mending::descriptor_count)
      : mending_(mending.value) {
    write_making_of_thread();
    write_duplicating();
    put({0x0f, 0x05}); // call: syscall
    for (std::size_t at = 0; at < descriptors; ++at)
      write_closing(offsetof(Mending, descriptors) + at * sizeof(std::uint64_t));
    write_leaving();
  }

  static constexpr std::size_t word_size = sizeof(std::uint64_t);
  static constexpr std::size_t word_count = 30;

  /// The code, by words of the client's memory.
  constexpr std::array<std::uint64_t, word_count> words() const {
    std::array<std::uint64_t, word_count> words{};
    for (std::size_t at = 0; at < code_.size(); ++at)
      words.at(at / word_size) |= std::uint64_t{code_.at(at)} << (at % word_size * 8);
    return words;
  }

  // Where the syscall instructions end, from the start of the code, for
  static constexpr Bytes clone_end{2};      ///< the call that makes a thread of ours,
  static constexpr Bytes errand_end{19};    ///< that thread's calls,
  static constexpr Bytes duplicate_end{23}; ///< a call that makes a descriptor,
  static constexpr Bytes call_end{33};      ///< a borrowed thread's other calls,
  /// and for closing the descriptor @p which of a Mending.
  static constexpr Bytes close_end(std::size_t which) {
    return Bytes{call_end.value + which * closing_size + 16};
  }

  /// The place where a thread begins to mend.
  static constexpr Bytes mend = call_end;

private:
  static constexpr std::size_t closing_size = 29;

  enum Register : std::uint8_t { rax = 0, rdx = 2, rsi = 6, rdi = 7, r8 = 8, r9 = 9, r10 = 10 };

  constexpr void write_making_of_thread() {
    put({0x0f, 0x05});                       //         syscall
    put({0x85, 0xc0});                       //         test  eax, eax
    put({0x75, 0x1b});                       //         jnz   mend
    put({0x31, 0xff});                       // end:    xor   edi, edi
    put({0xb8, SYS_exit, 0x00, 0x00, 0x00}); //         mov   eax, SYS_exit
    put({0x0f, 0x05});                       //         syscall
    put({0xeb, 0xf5});                       //         jmp   end
    put({0x0f, 0x05});                       // errand: syscall
    put({0xeb, 0xf1});                       //         jmp   end
  }

  constexpr void write_duplicating() {
    put({0x0f, 0x05}); // syscall
    put({0x89, 0x05}); // mov   [duplicate], eax
    distance(offsetof(Mending, duplicate));
    put({0xeb, 0x02}); // jmp   mend
  }

  /// @param place Where it says where the descriptor's number is.
  constexpr void write_closing(std::size_t place) {
    load(rdi, place);
    put({0x8b, 0x3f});                        // mov   edi, [rdi]
    put({0xb8, SYS_close, 0x00, 0x00, 0x00}); // mov   eax, SYS_close
    put({0x0f, 0x05});                        // syscall
    load(rdi, place);
    put({0xc7, 0x07, 0xff, 0xff, 0xff, 0xff}); // mov   dword [rdi], no_descriptor
  }

  constexpr void write_leaving() {
    constexpr std::uint8_t sig_setmask = 2;
    put({0xb8, SYS_rt_sigprocmask, 0x00, 0x00, 0x00}); // mov   eax, SYS_rt_sigprocmask
    put({0xbf, sig_setmask, 0x00, 0x00, 0x00});        // mov   edi, SIG_SETMASK
    put({0x48, 0x8d, 0x35});                           // lea   rsi, [signal_mask]
    distance(offsetof(Mending, signal_mask));
    put({0xba, 0x00, 0x00, 0x00, 0x00});       // mov   edx, 0
    put({0x41, 0xba, 0x08, 0x00, 0x00, 0x00}); // mov   r10d, 8
    put({0x0f, 0x05});                         // syscall
    load(rdi, offsetof(Mending, rdi));
    load(rsi, offsetof(Mending, rsi));
    load(rdx, offsetof(Mending, rdx));
    load(r10, offsetof(Mending, r10));
    load(r8, offsetof(Mending, r8));
    load(r9, offsetof(Mending, r9));
    load(rax, offsetof(Mending, rax));
    put({0xff, 0x25}); // jmp   [rip]
    distance(offsetof(Mending, rip));
  }

  /// mov to, [field]
  constexpr void load(Register to, std::size_t field) {
    const bool extended = to >= r8;
    put({static_cast<std::uint8_t>(extended ? 0x4c : 0x48), 0x8b,
         static_cast<std::uint8_t>((to % 8U) << 3U | 5U)});
    distance(field);
  }

  /// Writes the last four bytes of an instruction: the distance of @p field from its end.
  constexpr void distance(std::size_t field) {
    const auto far = static_cast<std::uint32_t>(mending_ + field - (size_ + sizeof(std::uint32_t)));
    put({static_cast<std::uint8_t>(far), static_cast<std::uint8_t>(far >> 8U),
         static_cast<std::uint8_t>(far >> 16U), static_cast<std::uint8_t>(far >> 24U)});
  }

  constexpr void put(std::initializer_list<std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes)
      code_.at(size_++) = byte;
  }

  std::uint64_t mending_;
  std::array<std::uint8_t, word_count * word_size> code_{};
  std::size_t size_ = 0;
};

} // namespace vfio_shim::arch
