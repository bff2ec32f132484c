// SPDX-License-Identifier: MIT
#include "client/borrowed_thread.hpp"

#include "client/seizure.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/process_memory.hpp"

#include <csignal>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace vfio_shim::client {

namespace {

using arch::ClientCode;
using arch::Mending;

constexpr std::uint64_t all_signals = ~std::uint64_t{0};

/// An address for our area in a client: anywhere far from what programs and libraries use. The
/// kernel's own choice would be the hole that the client has made last, and who then maps that hole
/// by mistake is owed EFAULT.
std::uint64_t out_of_the_way() {
  constexpr std::uint64_t start = 0x4800'0000'0000;
  constexpr std::uint64_t size = 0x0800'0000'0000;
  constexpr std::uint64_t page_size = ClientArea::page_size.value;
  std::uint64_t random = 0;
  (void)::getrandom(&random, sizeof(random), GRND_NONBLOCK);
  return start + random % size / page_size * page_size;
}

Result<void> check_filters(Tid thread) {
  if (!can_suspend_filters() && is_sandboxed(thread))
    return fail(EBUSY, "the client has a seccomp filter that cannot be suspended: the kernel has "
                       "no CONFIG_CHECKPOINT_RESTORE, or this daemon has a filter itself");
  return {};
}

bool is_signal_stop(int status) {
  return WIFSTOPPED(status) && (status >> 16) == 0;
}

} // namespace

Result<std::unique_ptr<BorrowedThread>>
BorrowedThread::borrow(Tid thread, ClientAreas &areas, CallNotes &notes,
                       const std::function<bool()> &let_go) {
  VFIO_SHIM_TRY(check_filters(thread));
  VFIO_SHIM_TRY(seize(thread, options));
  std::unique_ptr<BorrowedThread> borrowed(new BorrowedThread(thread, areas, notes));
  if (trace(PTRACE_INTERRUPT, thread, 0, nullptr) != 0)
    return borrowed->lost("PTRACE_INTERRUPT");
  notes.answered_early();
  const bool answered = let_go();
  VFIO_SHIM_TRY(borrowed->wait_for_stop());
  if (!answered)
    return borrowed->leave_alone();
  if (const auto settled = borrowed->settle(); !settled) {
    borrowed->give_back(-settled.error().code);
    return pass_on(settled);
  }
  return borrowed;
}

Result<std::unique_ptr<BorrowedThread>> BorrowedThread::halt(Tid thread, ClientAreas &areas,
                                                             CallNotes &notes) {
  VFIO_SHIM_TRY(check_filters(thread));
  VFIO_SHIM_TRY(seize(thread, options));
  std::unique_ptr<BorrowedThread> halted(new BorrowedThread(thread, areas, notes));
  halted->halted_ = true;
  if (trace(PTRACE_INTERRUPT, thread, 0, nullptr) != 0)
    return halted->lost("PTRACE_INTERRUPT");
  VFIO_SHIM_TRY(halted->wait_for_stop());
  VFIO_SHIM_TRY(halted->read_registers());
  if (is_signal_stop(halted->stop_status()) ||
      halted->registers().orig_rax == arch::no_system_call) {
    (void)halted->leave_alone();
    return fail(EAGAIN, "the thread is in no system call");
  }
  if (const auto settled = halted->settle(); !settled) {
    halted->give_back_as_it_was();
    return pass_on(settled);
  }
  return halted;
}

/// It is not the thread that was meant, or is in no call of ours any more.
tl::unexpected<Error> BorrowedThread::leave_alone() {
  detach(is_signal_stop(stop_status()) ? WSTOPSIG(stop_status()) : 0);
  return lost("the thread waits no more");
}

BorrowedThread::~BorrowedThread() {
  if (alive() && halted_)
    give_back_as_it_was();
  else if (alive())
    give_back(-EINTR);
}

/// Brings the thread, which has just stopped, to where it can make calls for us and mend itself.
Result<void> BorrowedThread::settle() {
  VFIO_SHIM_TRY(read_registers());
  std::uint64_t mask = 0;
  if (trace(PTRACE_GETSIGMASK, id(), sizeof(mask), &mask) != 0)
    return lost("PTRACE_GETSIGMASK");
  mending_ = halted_ ? arch::to_go_on(registers(), mask)
                     : arch::to_call_again(registers(), mask); // Until it has another answer.
  if (has_filters())
    enter_as(arch::ioctl_on_nothing(registers()));
  VFIO_SHIM_TRY(check_instruction());
  const auto process = thread_group(id());
  process_ = process.value_or(Pid{id().value}); // For want of descriptors: as good.
  area_ = areas_.take(id(), process_);
  if (area_) {
    VFIO_SHIM_TRY(be_mendable());
    return block_signals();
  }
  if (process)
    corner_ = VdsoCorner::take(id(), process_, mending_);
  const auto made = make_area();
  if (made || !alive())
    return made;
  area_.reset();
  why_no_area_ = made.error();
  return {};
}

Result<ClientArea> BorrowedThread::area() const {
  if (!area_)
    return tl::unexpected(why_no_area_);
  return *area_;
}

/// A 32-bit client, or one that entered the kernel another way, cannot make our calls.
Result<void> BorrowedThread::check_instruction() {
  std::array<std::byte, arch::syscall_instruction.size()> instruction{};
  const auto read =
      read_memory(id(), ClientAddr{registers().rip - instruction.size()}, instruction);
  if (!read || instruction != arch::syscall_instruction)
    return fail(EOPNOTSUPP, "the client's ioctl was no 64-bit syscall instruction");
  return {};
}

Result<void> BorrowedThread::block_signals() {
  if (trace(PTRACE_SETSIGMASK, id(), sizeof(all_signals), &all_signals) != 0)
    return lost("PTRACE_SETSIGMASK");
  mask_changed_ = true;
  return {};
}

/// Once in a process's life. Where there is no corner, nothing would mend the thread in these
/// calls.
Result<void> BorrowedThread::make_area() {
  if (corner_)
    VFIO_SHIM_TRY(stand_in(corner_->code()));
  VFIO_SHIM_TRY(block_signals());
  auto made = map_area();
  if (!made)
    return pass_on(made);
  area_ = *made;
  VFIO_SHIM_TRY(be_mendable());
  corner_.reset(); // The thread does not stand in it any more.
  return {};
}

Result<ClientArea> BorrowedThread::map_area() {
  const auto mapped =
      system_call(SYS_mmap, {out_of_the_way(), ClientArea::size.value, PROT_READ | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0});
  if (!mapped) // EAGAIN: all that it maps is to be locked, and it may lock no more.
    return fail(mapped.error().code == EAGAIN ? ENOMEM : mapped.error().code,
                "our area in the client: " + mapped.error().where);
  ClientArea area{ClientAddr{static_cast<std::uint64_t>(*mapped)}};
  if (const auto filled = fill(area); !filled) {
    (void)system_call(SYS_munmap, {area.code().value, ClientArea::size.value, 0, 0, 0, 0});
    return pass_on(filled);
  }
  areas_.note(process_, area);
  return area;
}

Result<void> BorrowedThread::fill(ClientArea &area) {
  const auto writable =
      system_call(SYS_mprotect, {area.scratch().value, ClientArea::page_size.value,
                                 PROT_READ | PROT_WRITE, 0, 0, 0});
  if (!writable)
    return pass_on(writable);
  // What memory that has just been mapped can lack is memory.
  if (!poke(id(), area.code(), ClientArea::code_words()) || !area.mark(id()))
    return fail(ENOMEM, "the memory of our area in the client");
  return {};
}

/// From now on the thread mends itself if we die, wherever it is stopped.
Result<void> BorrowedThread::be_mendable() {
  VFIO_SHIM_TRY(leave_descriptors());
  notes_.mends_at(area_->place_of(0));
  return stand_in(area_->code());
}

/// Has the thread stop where it would begin to mend, and make its calls from there.
Result<void> BorrowedThread::stand_in(ClientAddr code) {
  arch::Registers about_to_mend = registers();
  about_to_mend.rip = (code + ClientCode::mend).value;
  about_to_mend.orig_rax = arch::no_system_call;
  if (trace(PTRACE_SETREGS, id(), 0, &about_to_mend) != 0)
    return lost("PTRACE_SETREGS");
  call_from(code + ClientCode::call_end);
  return {};
}

Result<void> BorrowedThread::close_if_we_die(const Places &places) {
  for (std::size_t at = 0; at < places.size(); ++at)
    mending_.descriptors.at(at) = places.at(at).value;
  mending_.descriptors.at(Mending::the_duplicate) =
      area_->place_of(offsetof(Mending, duplicate)).value;
  return write_mending();
}

Result<void> BorrowedThread::leave_descriptors() {
  mending_.descriptors.fill(area_->place_of(offsetof(Mending, none)).value);
  return write_mending();
}

void BorrowedThread::close(const Places &places, std::size_t which, ClientFd number) {
  call_from(area_->code() + ClientCode::close_end(which));
  (void)system_call(SYS_close, {static_cast<std::uint64_t>(number.value), 0, 0, 0, 0, 0});
  (void)write_memory(id(), places.at(which), std::as_bytes(std::span(&Mending::no_descriptor, 1)));
  call_from(area_->code() + ClientCode::call_end);
}

Result<ClientFd> BorrowedThread::duplicate(ClientFd file, ClientFd least) {
  call_from(area_->code() + ClientCode::duplicate_end);
  const auto made = system_call(SYS_fcntl, {static_cast<std::uint64_t>(file.value), F_DUPFD_CLOEXEC,
                                            static_cast<std::uint64_t>(least.value), 0, 0, 0});
  if (made) {
    mending_.duplicate = static_cast<std::int32_t>(*made);
    (void)write_mending();
  }
  call_from(area_->code() + ClientCode::call_end);
  if (!made)
    return pass_on(made);
  return ClientFd{static_cast<int>(*made)};
}

void BorrowedThread::give_back(long ioctl_result) {
  if (alive()) {
    arch::Registers answered = registers();
    answered.rax = static_cast<std::uint64_t>(ioctl_result);
    answered.orig_rax = arch::no_system_call;
    restore(answered);
  }
  leave_area();
}

void BorrowedThread::give_back_as_it_was() {
  if (alive())
    restore(arch::going_on(registers()));
  leave_area();
}

void BorrowedThread::leave_area() {
  if (const auto area = std::exchange(area_, std::nullopt))
    areas_.give_back(process_, *area);
}

/// If we die in here, the thread goes on like that as well, by mending itself.
void BorrowedThread::restore(const arch::Registers &going_on) {
  registers() = going_on;
  if (area_) {
    mending_.rax = going_on.rax;
    mending_.rip = going_on.rip;
    mending_.answered = notes_.id();
    (void)leave_descriptors();
  }
  notes_.answered();
  bool done = !mask_changed_ || trace(PTRACE_SETSIGMASK, id(), sizeof(mending_.signal_mask),
                                      &mending_.signal_mask) == 0;
  done = done && write_registers();
  corner_.reset(); // While the thread is stopped.
  if (!done || !detach(0))
    (void)lost("PTRACE_DETACH");
}

} // namespace vfio_shim::client
