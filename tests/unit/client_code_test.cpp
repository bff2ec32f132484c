// SPDX-License-Identifier: MIT
// The code of ours that a client's thread runs if its tracer dies: here this thread runs it.

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstring>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64.hpp"

namespace {

using vfio_shim::Bytes;
using vfio_shim::arch::ClientCode;
using vfio_shim::arch::Mending;

constexpr std::size_t page = 4096;

/// A page with the code, and one with what it works with.
class Area {
public:
  Area() {
    void *pages =
        ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    start_ = static_cast<std::byte *>(pages);
    constexpr auto words = ClientCode(Bytes{page}).words();
    std::memcpy(start_, words.data(), sizeof(words));
    ::mprotect(start_, page, PROT_READ | PROT_EXEC);
    mending().none = mending().duplicate = Mending::no_descriptor;
    mending().descriptors.fill(reinterpret_cast<std::uint64_t>(&mending().none));
  }
  Area(const Area &) = delete;
  Area &operator=(const Area &) = delete;
  ~Area() { ::munmap(start_, 2 * page); }

  Mending &mending() const { return *reinterpret_cast<Mending *>(start_ + page); }
  const std::byte *at(Bytes offset) const { return start_ + offset.value; }

private:
  std::byte *start_ = nullptr;
};

/// What a thread has when it has come back.
struct Return {
  std::uint64_t rax, rdi, rsi, rdx, r10, r8, r9;
};

} // namespace

// void run_client_code(begin rdi, Return *found rsi, where it comes back to rdx, its rax rcx)
asm(R"(
    .text
    .type run_client_code, @function
run_client_code:
    push %rbx
    mov %rsi, %rbx
    lea 1f(%rip), %rax
    mov %rax, (%rdx)
    mov %rcx, %rax
    jmp *%rdi
1:
    mov %rax, (%rbx)
    mov %rdi, 8(%rbx)
    mov %rsi, 16(%rbx)
    mov %rdx, 24(%rbx)
    mov %r10, 32(%rbx)
    mov %r8, 40(%rbx)
    mov %r9, 48(%rbx)
    pop %rbx
    ret
    .size run_client_code, . - run_client_code
)");
extern "C" void run_client_code(const std::byte *begin, Return *found, std::uint64_t *way_back,
                                std::uint64_t rax);

namespace {

/// Has this thread go on at @p begin, with @p rax, which leads it back by way of @p mending.
Return run(const std::byte *begin, Mending &mending, std::uint64_t rax = 0) {
  Return found{};
  run_client_code(begin, &found, &mending.rip, rax);
  return found;
}

std::uint64_t mask_of_this_thread() {
  std::uint64_t mask = 0;
  sigset_t set;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &set);
  std::memcpy(&mask, &set, sizeof(mask));
  return mask;
}

bool is_open(int descriptor) {
  return ::fcntl(descriptor, F_GETFD) >= 0;
}

TEST(ClientCodeTest, SystemCallsEndWhereItSays) {
  const Area area;
  for (const Bytes end : {ClientCode::clone_end, ClientCode::errand_end, ClientCode::duplicate_end,
                          ClientCode::call_end, ClientCode::close_end(0), ClientCode::close_end(1),
                          ClientCode::close_end(2), ClientCode::close_end(3)}) {
    const std::byte *instruction = area.at(Bytes{end.value - 2});
    EXPECT_TRUE(
        std::equal(instruction, instruction + 2, vfio_shim::arch::syscall_instruction.begin()))
        << end.value;
  }
}

TEST(ClientCodeTest, GivesTheThreadItsRegistersAndSignalMaskBack) {
  const Area area;
  Mending &mending = area.mending();
  const std::uint64_t before = mask_of_this_thread();
  mending.rax = 1;
  mending.rdi = 2;
  mending.rsi = 3;
  mending.rdx = 4;
  mending.r10 = 5;
  mending.r8 = 6;
  mending.r9 = 7;
  mending.signal_mask = before | std::uint64_t{1} << (SIGUSR2 - 1);
  const Return found = run(area.at(ClientCode::mend), mending);
  EXPECT_EQ(mask_of_this_thread(), mending.signal_mask);
  sigset_t unblocked;
  std::memset(&unblocked, 0, sizeof(unblocked));
  std::memcpy(&unblocked, &before, sizeof(before));
  ::pthread_sigmask(SIG_SETMASK, &unblocked, nullptr);
  EXPECT_EQ((std::array{found.rax, found.rdi, found.rsi, found.rdx, found.r10, found.r8, found.r9}),
            (std::array<std::uint64_t, 7>{1, 2, 3, 4, 5, 6, 7}));
}

TEST(ClientCodeTest, ClosesWhatIsLeftBehindOnce) {
  const Area area;
  Mending &mending = area.mending();
  mending.signal_mask = mask_of_this_thread();
  std::array<int, 2> left{::dup(STDERR_FILENO), ::dup(STDERR_FILENO)};
  const std::array before = left;
  mending.descriptors.at(1) = reinterpret_cast<std::uint64_t>(&left[0]);
  mending.descriptors.at(2) = reinterpret_cast<std::uint64_t>(&left[1]);
  run(area.at(ClientCode::mend), mending);
  EXPECT_FALSE(is_open(before[0]));
  EXPECT_FALSE(is_open(before[1]));
  EXPECT_EQ(left, (std::array{Mending::no_descriptor, Mending::no_descriptor}));
  const int other = ::dup(STDERR_FILENO);
  run(area.at(ClientCode::mend), mending);
  EXPECT_TRUE(is_open(other)) << "it has the number of one that was closed";
  ::close(other);
}

/// Where a call has just made a descriptor.
TEST(ClientCodeTest, ClosesWhatACallHasJustMade) {
  const Area area;
  Mending &mending = area.mending();
  mending.signal_mask = mask_of_this_thread();
  mending.descriptors.at(Mending::the_duplicate) =
      reinterpret_cast<std::uint64_t>(&mending.duplicate);
  const int made = ::dup(STDERR_FILENO);
  // The thread arrives behind the call, with what that has returned.
  run(area.at(ClientCode::duplicate_end), mending, static_cast<std::uint64_t>(made));
  EXPECT_FALSE(is_open(made));
  EXPECT_EQ(mending.duplicate, Mending::no_descriptor);
}

} // namespace
