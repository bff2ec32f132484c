#include "client/borrowed_thread.hpp"

#include "client/brief_watch.hpp"
#include "client/periodic_interrupt.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/process_memory.hpp"

#include <csignal>
#include <cstring>

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace vfio_shim::client {

namespace {

constexpr std::uint64_t syscall_instruction_size = 2;
constexpr std::array<std::byte, 2> syscall_instruction = {std::byte{0x0f}, std::byte{0x05}};
/// x86-64 ABI: memory below the stack pointer that belongs to the running function.
constexpr std::uint64_t red_zone = 128;
constexpr std::uint64_t no_system_call = ~std::uint64_t{0};
constexpr long highest_errno = 4095;
constexpr int most_stops_per_step = 64;

/// SIGTRAP stays open: the kernel *forces* it at every single step, and forcing a blocked signal
/// resets its handler.
constexpr std::uint64_t all_but_sigtrap = ~(std::uint64_t{1} << (SIGTRAP - 1));

// ptrace belongs to a thread, so what is left of it does too.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local bool traces_a_dead_client = false;

long trace(int request, Tid thread, std::uint64_t address, const void *data) {
  return ::ptrace(static_cast<__ptrace_request>(request), thread.value, address, data);
}

const void *as_data(std::uint64_t number) {
  return reinterpret_cast<const void *>(number);
}

bool has_filter_of_our_own() {
  return ::prctl(PR_GET_SECCOMP) > 0;
}

/// Whether a seizure failed because it should have suspended the client's seccomp filters. EINVAL:
/// no CONFIG_CHECKPOINT_RESTORE. EPERM: who has a filter may not suspend others' (or the client is
/// being traced already).
bool cannot_suspend_filters(int error) {
  return error == EINVAL || (error == EPERM && has_filter_of_our_own());
}

Result<void> seize(Tid thread) {
  // TRACEEXIT tells of a client that is killed meanwhile, at once. Its end would be reported only
  // after things that may wait for us (see lost()).
  constexpr std::uint64_t options = PTRACE_O_TRACEEXIT | PTRACE_O_TRACESYSGOOD;
  // A sandboxed client's own filter must not judge the calls that it makes for us.
  if (trace(PTRACE_SEIZE, thread, 0, as_data(options | PTRACE_O_SUSPEND_SECCOMP)) == 0)
    return {};
  if (cannot_suspend_filters(errno)) {
    if (is_sandboxed(thread))
      return fail(EBUSY, "the client has a seccomp filter that cannot be suspended: the kernel has "
                         "no CONFIG_CHECKPOINT_RESTORE, or this daemon has a filter itself");
    if (trace(PTRACE_SEIZE, thread, 0, as_data(options)) == 0)
      return {};
  }
  if (errno == EPERM)
    return fail(EBUSY, "PTRACE_SEIZE: the client is being traced (a debugger?)");
  return fail_errno("PTRACE_SEIZE");
}

/// A stop that no signal caused: an interrupt, or SIGSTOP having stopped the whole process.
bool is_event_stop(int status) {
  return (status >> 16) == PTRACE_EVENT_STOP;
}

bool is_exit_stop(int status) {
  return (status >> 16) == PTRACE_EVENT_EXIT;
}

bool is_system_call_stop(int status) {
  return WSTOPSIG(status) == (SIGTRAP | 0x80);
}

bool is_trap(int status) {
  return !is_event_stop(status) && WSTOPSIG(status) == SIGTRAP;
}

/// Whether a signal was sent by a process rather than raised by the kernel.
bool sent_by_somebody(const siginfo_t &info) {
  return info.si_code <= 0;
}

} // namespace

Result<std::unique_ptr<BorrowedThread>>
BorrowedThread::borrow(Tid thread, const std::function<void()> &let_go) {
  VFIO_SHIM_TRY(seize(thread));
  std::unique_ptr<BorrowedThread> borrowed(new BorrowedThread(thread));
  if (trace(PTRACE_INTERRUPT, thread, 0, nullptr) != 0)
    return borrowed->lost("PTRACE_INTERRUPT");
  let_go();
  // While it wakes up. If it is gone, waiting for it tells.
  borrowed->can_be_trapped_ = !ignores_sigtrap(thread);
  VFIO_SHIM_TRY(borrowed->wait_for_stop());
  VFIO_SHIM_TRY(borrowed->save_state());
  return borrowed;
}

BorrowedThread::~BorrowedThread() {
  if (alive_)
    give_back(-EINTR);
}

Result<void> BorrowedThread::save_state() {
  if (trace(PTRACE_GETREGS, thread_, 0, &registers_) != 0)
    return lost("PTRACE_GETREGS");
  if (trace(PTRACE_GETSIGMASK, thread_, sizeof(signal_mask_), &signal_mask_) != 0)
    return lost("PTRACE_GETSIGMASK");
  if (trace(PTRACE_SETSIGMASK, thread_, sizeof(all_but_sigtrap), &all_but_sigtrap) != 0)
    return lost("PTRACE_SETSIGMASK");
  mask_changed_ = true;

  // A 32-bit client, or one that entered the kernel another way: we could not step it.
  std::array<std::byte, syscall_instruction.size()> instruction{};
  const auto read =
      read_memory(thread_, ClientAddr{registers_.rip - syscall_instruction_size}, instruction);
  if (!read || instruction != syscall_instruction) {
    give_back(-EOPNOTSUPP);
    return fail(EOPNOTSUPP, "the client's ioctl was no 64-bit syscall instruction");
  }
  return {};
}

Result<long> BorrowedThread::system_call(long number, std::array<std::uint64_t, 6> arguments) {
  if (!alive_)
    return fail(ESRCH, "the client is gone");
  user_regs_struct registers = registers_;
  registers.rip -= syscall_instruction_size;
  registers.rax = static_cast<std::uint64_t>(number);
  registers.orig_rax = no_system_call; // Nothing to restart: this is a new call.
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
  if (trace(PTRACE_SETREGS, thread_, 0, &registers) != 0)
    return lost("PTRACE_SETREGS");
  const auto after = step_over_system_call();
  if (!after)
    return pass_on(after);
  const long result = static_cast<long>(after->rax);
  if (result < 0 && result >= -highest_errno)
    return fail(static_cast<int>(-result), fmt::format("borrowed system call {}", number));
  return result;
}

/// The thread stands before its syscall instruction; afterwards it stands behind it.
/// @return Its registers there.
Result<user_regs_struct> BorrowedThread::step_over_system_call() {
  // A single step costs one stop, but the kernel reports it by forcing SIGTRAP, and forcing an
  // ignored signal resets its disposition. Clients that ignore SIGTRAP take the longer way.
  return can_be_trapped_ ? step_by_trap() : step_by_system_call_stops();
}

Result<user_regs_struct> BorrowedThread::step_by_trap() {
  // A few stops more than one are possible (SIGSTOP, a foreign SIGTRAP). Many mean that a sibling
  // thread has overwritten the instruction to keep us busy.
  for (int stops = 0; stops < most_stops_per_step; ++stops) {
    VFIO_SHIM_TRY(resume(PTRACE_SINGLESTEP));
    if (!is_trap(stop_status_))
      continue;
    siginfo_t info{};
    if (trace(PTRACE_GETSIGINFO, thread_, 0, &info) != 0)
      return lost("PTRACE_GETSIGINFO");
    if (sent_by_somebody(info)) {
      static_assert(sizeof(info) <= sizeof(trap_info_));
      std::memcpy(trap_info_.data(), &info, sizeof(info));
      trap_pending_ = true;
    }
    auto now = current_registers();
    if (!now || now->rip == registers_.rip)
      return now;
  }
  return fail(EFAULT, "the client has changed the code that it calls us from");
}

Result<user_regs_struct> BorrowedThread::step_by_system_call_stops() {
  for (int stops = 0; stops < 2;) { // On its way in, and on its way out.
    VFIO_SHIM_TRY(resume(PTRACE_SYSCALL));
    if (is_system_call_stop(stop_status_))
      ++stops;
  }
  return current_registers();
}

/// Lets the thread run until its next stop. A signal that stopped it is SIGSTOP, which cannot be
/// blocked: it is passed on, and takes effect on this thread when it is given back.
Result<void> BorrowedThread::resume(int request) {
  const bool signalled = !is_event_stop(stop_status_) && !is_system_call_stop(stop_status_) &&
                         WSTOPSIG(stop_status_) != SIGTRAP;
  const std::uint64_t signal = signalled ? static_cast<std::uint64_t>(WSTOPSIG(stop_status_)) : 0;
  if (trace(request, thread_, 0, as_data(signal)) != 0)
    return lost("resuming the borrowed thread");
  return wait_for_stop();
}

Result<user_regs_struct> BorrowedThread::current_registers() {
  user_regs_struct registers{};
  if (trace(PTRACE_GETREGS, thread_, 0, &registers) != 0)
    return lost("PTRACE_GETREGS");
  return registers;
}

Result<ClientAddr> BorrowedThread::scratch() {
  if (scratch_.value != 0)
    return scratch_;
  const ClientAddr below{(registers_.rsp - red_zone - scratch_size) & ~std::uint64_t{15}};
  std::vector<std::byte> contents(scratch_size);
  // Writing back what is there shows whether it can be written.
  if (read_memory(thread_, below, contents) && write_memory(thread_, below, contents)) {
    scratch_contents_ = std::move(contents);
    scratch_ = below;
    return scratch_;
  }
  constexpr std::uint64_t page = 4096;
  const auto mapped = system_call(SYS_mmap, {0, page, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0});
  if (!mapped)
    return pass_on(mapped);
  scratch_is_mapped_ = true;
  scratch_ = ClientAddr{static_cast<std::uint64_t>(*mapped)};
  return scratch_;
}

void BorrowedThread::restore_scratch() {
  if (scratch_is_mapped_)
    (void)system_call(SYS_munmap, {scratch_.value, 4096, 0, 0, 0, 0});
  else if (!scratch_contents_.empty())
    (void)write_memory(thread_, scratch_, scratch_contents_);
  scratch_ = {};
  scratch_is_mapped_ = false;
  scratch_contents_.clear();
}

void BorrowedThread::give_back(long ioctl_result) {
  if (!alive_)
    return;
  restore_scratch();
  registers_.rax = static_cast<std::uint64_t>(ioctl_result);
  registers_.orig_rax = no_system_call;
  std::uint64_t signal = 0;
  if (trap_pending_ && is_trap(stop_status_) &&
      trace(PTRACE_SETSIGINFO, thread_, 0, trap_info_.data()) == 0)
    signal = SIGTRAP;
  if (!alive_ || trace(PTRACE_SETREGS, thread_, 0, &registers_) != 0 ||
      (mask_changed_ &&
       trace(PTRACE_SETSIGMASK, thread_, sizeof(signal_mask_), &signal_mask_) != 0) ||
      trace(PTRACE_DETACH, thread_, 0, as_data(signal)) != 0)
    (void)lost("PTRACE_DETACH");
  alive_ = false;
}

/// As waitpid(): it may be interrupted, and then wants to be called again.
pid_t BorrowedThread::await_change() {
  pid_t waited = 0;
  for (BriefWatch watch; waited == 0 && watch.goes_on();)
    waited = ::waitpid(thread_.value, &stop_status_, __WALL | WNOHANG);
  if (waited != 0)
    return waited;
  // A client that is killed while it is stopped stops once more, to exit. If it gets there just
  // before we resume it, we resume it from that, and nothing tells: hence a look now and then.
  const PeriodicInterrupt look_again;
  return ::waitpid(thread_.value, &stop_status_, __WALL);
}

Result<void> BorrowedThread::wait_for_stop() {
  for (;;) {
    const pid_t waited = await_change();
    if (waited == thread_.value && WIFSTOPPED(stop_status_) && !is_exit_stop(stop_status_))
      return {};
    if (waited == thread_.value && WIFSTOPPED(stop_status_))
      (void)trace(PTRACE_DETACH, thread_, 0, nullptr); // Dying: let it.
    if (waited < 0 && errno == EINTR && !is_exiting(thread_))
      continue;
    if (waited == thread_.value)
      alive_ = false; // Its end is reported and reaped: nothing more is owed.
    return lost("waiting for the borrowed thread");
  }
}

/// The client was killed. It is ours until we have waited for it, but its end may itself wait for
/// us: its last close() is a call to us, and a sibling thread can be in a call that queues behind
/// this one.
tl::unexpected<Error> BorrowedThread::lost(const char *where) {
  if (alive_) {
    const pid_t waited = ::waitpid(thread_.value, &stop_status_, __WALL | WNOHANG);
    const bool ended = waited == thread_.value && !WIFSTOPPED(stop_status_);
    // It may have come to its exit stop just now: then it waits for us to be let go.
    const bool released = waited == thread_.value && trace(PTRACE_DETACH, thread_, 0, nullptr) == 0;
    if (!ended && !released)
      traces_a_dead_client = true;
  }
  alive_ = false;
  return fail(ESRCH, fmt::format("{}: the client died", where));
}

bool BorrowedThread::tracer_must_retire() {
  return traces_a_dead_client;
}

} // namespace vfio_shim::client
