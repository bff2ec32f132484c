#include "client/borrowed_thread.hpp"

#include "client/brief_watch.hpp"
#include "client/periodic_interrupt.hpp"
#include "client/seizure.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/process_memory.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <csignal>
#include <span>

#include <fmt/format.h>
#include <linux/audit.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace vfio_shim::client {

namespace {

constexpr std::array<std::byte, 2> syscall_instruction = {std::byte{0x0f}, std::byte{0x05}};
constexpr std::uint64_t no_system_call = ~std::uint64_t{0};
constexpr long highest_errno = 4095;
constexpr std::uint64_t all_signals = ~std::uint64_t{0};

/// TRACEEXIT tells of a client that is killed meanwhile, at once. Its end would be reported only
/// after things that may wait for us (see lost()).
constexpr std::uint64_t options = PTRACE_O_TRACEEXIT | PTRACE_O_TRACESYSGOOD;

// ptrace belongs to a thread, so what is left of it does too.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local bool traces_a_dead_client = false;

long trace(int request, Tid thread, std::uint64_t address, const void *data) {
  return ::ptrace(static_cast<__ptrace_request>(request), thread.value, address, data);
}

const void *as_data(std::uint64_t number) {
  return reinterpret_cast<const void *>(number);
}

/// The register at @p offset in user_regs_struct. The kernel needs no memory for this.
/// @return False, with errno, if it cannot be read.
bool peek_register(Tid thread, std::size_t offset, std::uint64_t &value) {
  errno = 0;
  value = static_cast<std::uint64_t>(trace(PTRACE_PEEKUSER, thread, offset, nullptr));
  return errno == 0;
}

/// All registers. That the kernel is short of memory is no reason not to get them: without them
/// nobody could give the thread its answer.
bool get_registers(Tid thread, user_regs_struct &registers) {
  if (trace(PTRACE_GETREGS, thread, 0, &registers) == 0)
    return true;
  if (errno != ENOMEM)
    return false;
  std::array<std::uint64_t, sizeof(registers) / sizeof(std::uint64_t)> one_by_one{};
  for (std::size_t at = 0; at < one_by_one.size(); ++at)
    if (!peek_register(thread, at * sizeof(std::uint64_t), one_by_one[at]))
      return false;
  registers = std::bit_cast<user_regs_struct>(one_by_one);
  return true;
}

bool is_exit_stop(int status) {
  return (status >> 16) == PTRACE_EVENT_EXIT;
}

bool is_system_call_stop(int status) {
  return WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/// A stop before a signal takes effect.
bool is_signal_stop(int status) {
  return (status >> 16) == 0 && !is_system_call_stop(status);
}

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

/// What a system call returns, inside the kernel, when a signal came before it had done anything:
/// it is made again. include/linux/errno.h.
bool is_to_be_made_again(long result) {
  constexpr long erestartsys = 512;
  constexpr long erestartnohand = 514;
  return result <= -erestartsys && result >= -erestartnohand;
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
  const int signal = is_signal_stop(stop_status_) ? WSTOPSIG(stop_status_) : 0;
  alive_ = trace(PTRACE_DETACH, thread_, 0, as_data(static_cast<std::uint64_t>(signal))) != 0;
  return lost("the thread waits no more");
}

BorrowedThread::~BorrowedThread() {
  if (alive_)
    give_back(-EINTR);
}

Result<void> BorrowedThread::save_state() {
  if (!get_registers(thread_, registers_))
    return lost("PTRACE_GETREGS");
  if (trace(PTRACE_GETSIGMASK, thread_, sizeof(signal_mask_), &signal_mask_) != 0)
    return lost("PTRACE_GETSIGMASK");
  if (trace(PTRACE_SETSIGMASK, thread_, sizeof(all_signals), &all_signals) != 0)
    return lost("PTRACE_SETSIGMASK");
  mask_changed_ = true;

  // A 32-bit client, or one that entered the kernel another way: it cannot make our calls.
  std::array<std::byte, syscall_instruction.size()> instruction{};
  const auto read =
      read_memory(thread_, ClientAddr{registers_.rip - instruction.size()}, instruction);
  if (!read || instruction != syscall_instruction) {
    give_back(-EOPNOTSUPP);
    return fail(EOPNOTSUPP, "the client's ioctl was no 64-bit syscall instruction");
  }
  return {};
}

Result<long> BorrowedThread::system_call(long number, std::array<std::uint64_t, 6> arguments) {
  if (!alive_)
    return fail(ESRCH, "the client is gone");
  const SystemCall call{.number = static_cast<std::uint64_t>(number), .arguments = arguments};
  user_regs_struct registers = registers_;
  registers.rip -= syscall_instruction.size();
  registers.rax = call.number;
  registers.orig_rax = no_system_call; // Nothing to restart: this is a new call.
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
  if (trace(PTRACE_SETREGS, thread_, 0, &registers) != 0)
    return lost("PTRACE_SETREGS");
  for (;;) {
    VFIO_SHIM_TRY(enter(call));
    const auto result = leave(call);
    if (!result || !is_to_be_made_again(*result))
      return result;
  }
}

/// Lets the thread go to the entry of its next system call, which must be @p call.
Result<void> BorrowedThread::enter(const SystemCall &call) {
  do {
    VFIO_SHIM_TRY(resume());
    // All others are blocked, so its code has raised this one: it is not what we wanted to run.
    if (is_signal_stop(stop_status_) && WSTOPSIG(stop_status_) != SIGSTOP)
      return fail(EFAULT, "the client has changed the code that it calls us from");
  } while (!is_system_call_stop(stop_status_));
  const auto right = is_about_to_make(call);
  if (!right)
    return pass_on(right);
  if (!*right)
    return skip_call();
  return judge_by_filters(false);
}

/// Lets the thread make the call that it has entered.
/// @return As the kernel leaves it, or the call's errno.
Result<long> BorrowedThread::leave(const SystemCall &call) {
  do {
    VFIO_SHIM_TRY(resume());
  } while (!is_system_call_stop(stop_status_));
  VFIO_SHIM_TRY(judge_by_filters(true));
  std::uint64_t returned = 0;
  if (!peek_register(thread_, offsetof(user_regs_struct, rax), returned))
    return lost("PTRACE_PEEKUSER");
  const long result = static_cast<long>(returned);
  if (result < 0 && result >= -highest_errno && !is_to_be_made_again(result))
    return fail(static_cast<int>(-result), fmt::format("borrowed system call {}", call.number));
  return result;
}

Result<bool> BorrowedThread::is_about_to_make(const SystemCall &call) {
  __ptrace_syscall_info info{};
  if (trace(PTRACE_GET_SYSCALL_INFO, thread_, sizeof(info), &info) <= 0)
    return lost("PTRACE_GET_SYSCALL_INFO");
  return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.arch == AUDIT_ARCH_X86_64 &&
         info.instruction_pointer == registers_.rip && info.entry.nr == call.number &&
         std::ranges::equal(std::span(info.entry.args), call.arguments);
}

/// The thread has entered a system call that it was not told to make: it leaves without having
/// made it.
Result<void> BorrowedThread::skip_call() {
  user_regs_struct none = registers_;
  none.orig_rax = no_system_call;
  if (trace(PTRACE_SETREGS, thread_, 0, &none) != 0)
    return lost("PTRACE_SETREGS");
  VFIO_SHIM_TRY(judge_by_filters(false)); // Even of no call a filter could say that it kills.
  do {
    VFIO_SHIM_TRY(resume());
  } while (!is_system_call_stop(stop_status_));
  VFIO_SHIM_TRY(judge_by_filters(true));
  return fail(EFAULT, "the client has changed the code that it calls us from");
}

/// Whether the client's seccomp filters judge what the thread does.
Result<void> BorrowedThread::judge_by_filters(bool yes) {
  if (!can_suspend_filters())
    return {}; // It has none: see borrow().
  if (trace(PTRACE_SETOPTIONS, thread_, 0,
            as_data(yes ? options : options | PTRACE_O_SUSPEND_SECCOMP)) != 0)
    return lost("PTRACE_SETOPTIONS");
  return {};
}

/// Lets the thread run until its next stop. SIGSTOP cannot be blocked: it is passed on, and takes
/// effect on this thread when it is given back.
Result<void> BorrowedThread::resume() {
  const bool stopping = is_signal_stop(stop_status_) && WSTOPSIG(stop_status_) == SIGSTOP;
  if (trace(PTRACE_SYSCALL, thread_, 0, as_data(stopping ? SIGSTOP : 0)) != 0)
    return lost("resuming the borrowed thread");
  return wait_for_stop();
}

Result<ClientAddr> BorrowedThread::scratch() {
  if (scratch_.value != 0)
    return scratch_;
  const auto mapped = system_call(SYS_mmap, {out_of_the_way(), page_size, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0});
  if (!mapped) // EAGAIN: all that it maps is to be locked, and it may lock no more.
    return fail(mapped.error().code == EAGAIN ? ENOMEM : mapped.error().code,
                "a page in the client: " + mapped.error().where);
  scratch_ = ClientAddr{static_cast<std::uint64_t>(*mapped)};
  scratch_is_temporary_ = true;
  // What a page that has just been made can lack is memory.
  if (!write_memory(thread_, scratch_, std::array{std::byte{}}))
    return fail(ENOMEM, "the memory of a page in the client");
  return scratch_;
}

void BorrowedThread::lend_scratch(ClientAddr page) {
  drop_scratch();
  scratch_ = page;
}

void BorrowedThread::drop_scratch() {
  if (scratch_is_temporary_)
    (void)system_call(SYS_munmap, {scratch_.value, page_size, 0, 0, 0, 0});
  scratch_ = {};
  scratch_is_temporary_ = false;
}

void BorrowedThread::give_back(long ioctl_result) {
  drop_scratch();
  if (!alive_)
    return;
  registers_.rax = static_cast<std::uint64_t>(ioctl_result);
  registers_.orig_rax = no_system_call;
  if (trace(PTRACE_SETREGS, thread_, 0, &registers_) != 0 ||
      (mask_changed_ &&
       trace(PTRACE_SETSIGMASK, thread_, sizeof(signal_mask_), &signal_mask_) != 0) ||
      trace(PTRACE_DETACH, thread_, 0, nullptr) != 0)
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
    if (waited < 0 && errno == EINTR && !is_exiting(thread_))
      continue;
    if (waited == thread_.value) // Dying: it is let go. Or it has ended, and is reaped.
      alive_ = WIFSTOPPED(stop_status_) && trace(PTRACE_DETACH, thread_, 0, nullptr) != 0;
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
