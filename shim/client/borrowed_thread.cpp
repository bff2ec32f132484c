#include "client/borrowed_thread.hpp"

#include "client/seizure.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/process_memory.hpp"

#include <csignal>

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace vfio_shim::client {

namespace {

constexpr std::uint64_t all_signals = ~std::uint64_t{0};

/// Where the client may have a page for us: anywhere far from what programs and libraries use. The
/// kernel's own choice would be the hole that the client has made last, and who then maps that hole
/// by mistake is owed EFAULT.
std::uint64_t out_of_the_way() {
  constexpr std::uint64_t start = 0x4800'0000'0000;
  constexpr std::uint64_t size = 0x0800'0000'0000;
  std::uint64_t random = 0;
  (void)::getrandom(&random, sizeof(random), GRND_NONBLOCK);
  return start + random % size / BorrowedThread::page_size * BorrowedThread::page_size;
}

bool is_signal_stop(int status) {
  return WIFSTOPPED(status) && (status >> 16) == 0;
}

} // namespace

Result<std::unique_ptr<BorrowedThread>>
BorrowedThread::borrow(Tid thread, const std::function<bool()> &let_go) {
  if (!can_suspend_filters() && is_sandboxed(thread))
    return fail(EBUSY, "the client has a seccomp filter that cannot be suspended: the kernel has "
                       "no CONFIG_CHECKPOINT_RESTORE, or this daemon has a filter itself");
  VFIO_SHIM_TRY(seize(thread, options));
  std::unique_ptr<BorrowedThread> borrowed(new BorrowedThread(thread));
  if (trace(PTRACE_INTERRUPT, thread, 0, nullptr) != 0)
    return borrowed->lost("PTRACE_INTERRUPT");
  const bool answered = let_go();
  VFIO_SHIM_TRY(borrowed->wait_for_stop());
  if (!answered)
    return borrowed->leave_alone();
  VFIO_SHIM_TRY(borrowed->save_state());
  return borrowed;
}

/// It is not the thread that was meant, or is in no call of ours any more.
tl::unexpected<Error> BorrowedThread::leave_alone() {
  detach(is_signal_stop(stop_status()) ? WSTOPSIG(stop_status()) : 0);
  return lost("the thread waits no more");
}

BorrowedThread::~BorrowedThread() {
  if (alive())
    give_back(-EINTR);
}

Result<void> BorrowedThread::save_state() {
  VFIO_SHIM_TRY(read_registers());
  if (trace(PTRACE_GETSIGMASK, id(), sizeof(signal_mask_), &signal_mask_) != 0)
    return lost("PTRACE_GETSIGMASK");
  if (trace(PTRACE_SETSIGMASK, id(), sizeof(all_signals), &all_signals) != 0)
    return lost("PTRACE_SETSIGMASK");
  mask_changed_ = true;

  // A 32-bit client, or one that entered the kernel another way: it cannot make our calls.
  std::array<std::byte, syscall_instruction.size()> instruction{};
  const auto read =
      read_memory(id(), ClientAddr{registers().rip - instruction.size()}, instruction);
  if (!read || instruction != syscall_instruction) {
    give_back(-EOPNOTSUPP);
    return fail(EOPNOTSUPP, "the client's ioctl was no 64-bit syscall instruction");
  }
  return {};
}

Result<ClientAddr> BorrowedThread::map_page(int protection) {
  const auto mapped =
      system_call(SYS_mmap, {out_of_the_way(), page_size, static_cast<std::uint64_t>(protection),
                             MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0});
  if (!mapped) // EAGAIN: all that it maps is to be locked, and it may lock no more.
    return fail(mapped.error().code == EAGAIN ? ENOMEM : mapped.error().code,
                "a page in the client: " + mapped.error().where);
  return ClientAddr{static_cast<std::uint64_t>(*mapped)};
}

void BorrowedThread::unmap_page(ClientAddr page) {
  (void)system_call(SYS_munmap, {page.value, page_size, 0, 0, 0, 0});
}

Result<ClientAddr> BorrowedThread::scratch() {
  if (scratch_.value != 0)
    return scratch_;
  const auto mapped = map_page(PROT_READ | PROT_WRITE);
  if (!mapped)
    return pass_on(mapped);
  scratch_ = *mapped;
  scratch_is_temporary_ = true;
  // What a page that has just been made can lack is memory.
  if (!write_memory(id(), scratch_, std::array{std::byte{}}))
    return fail(ENOMEM, "the memory of a page in the client");
  return scratch_;
}

void BorrowedThread::lend_scratch(ClientAddr page) {
  drop_scratch();
  scratch_ = page;
}

void BorrowedThread::drop_scratch() {
  if (scratch_is_temporary_)
    unmap_page(scratch_);
  scratch_ = {};
  scratch_is_temporary_ = false;
}

void BorrowedThread::give_back(long ioctl_result) {
  drop_scratch();
  if (!alive())
    return;
  registers().rax = static_cast<std::uint64_t>(ioctl_result);
  registers().orig_rax = no_system_call;
  if (!write_registers() ||
      (mask_changed_ && trace(PTRACE_SETSIGMASK, id(), sizeof(signal_mask_), &signal_mask_) != 0) ||
      !detach(0))
    (void)lost("PTRACE_DETACH");
}

} // namespace vfio_shim::client
