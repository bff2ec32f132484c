// SPDX-License-Identifier: MIT
#include "client/traced_thread.hpp"

#include "client/brief_watch.hpp"
#include "client/periodic_interrupt.hpp"
#include "client/seizure.hpp"
#include "client/thread_state.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace vfio_shim::client {

namespace {

constexpr long highest_errno = 4095;

// ptrace belongs to a thread, so what is left of it does too.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local bool traces_a_dead_client = false;

bool is_event(int status, int event) {
  return (status >> 16) == event;
}

bool is_system_call_stop(int status) {
  return WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/// A stop before a signal takes effect.
bool is_signal_stop(int status) {
  return (status >> 16) == 0 && !is_system_call_stop(status);
}

/// What a system call returns, inside the kernel, when a signal came before it had done anything:
/// it is made again. include/linux/errno.h.
bool is_to_be_made_again(long result) {
  constexpr long erestartsys = 512;
  constexpr long erestartnohand = 514;
  return result <= -erestartsys && result >= -erestartnohand;
}

/// The register at @p offset in arch::Registers. The kernel needs no memory for this.
/// @return False, with errno, if it cannot be read.
bool peek_register(Tid thread, std::size_t offset, std::uint64_t &value) {
  errno = 0;
  value = static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKUSER, thread.value, offset, nullptr));
  return errno == 0;
}

/// All registers. That the kernel is short of memory is no reason not to get them: without them
/// nobody could give the thread its answer.
bool get_registers(Tid thread, arch::Registers &registers) {
  if (::ptrace(PTRACE_GETREGS, thread.value, nullptr, &registers) == 0)
    return true;
  if (errno != ENOMEM)
    return false;
  std::array<std::uint64_t, sizeof(registers) / sizeof(std::uint64_t)> one_by_one{};
  for (std::size_t at = 0; at < one_by_one.size(); ++at)
    if (!peek_register(thread, at * sizeof(std::uint64_t), one_by_one[at]))
      return false;
  registers = std::bit_cast<arch::Registers>(one_by_one);
  return true;
}

} // namespace

/// TRACEEXIT tells of a client that is killed meanwhile, at once. Its end would be reported only
/// after things that may wait for us (see lost()).
const std::uint64_t TracedThread::options =
    PTRACE_O_TRACEEXIT | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;

long TracedThread::trace(int request, Tid thread, std::uint64_t address, const void *data) {
  return ::ptrace(static_cast<__ptrace_request>(request), thread.value, address, data);
}

Result<void> TracedThread::read_registers() {
  if (!get_registers(thread_, registers_))
    return lost("PTRACE_GETREGS");
  call_site_ = ClientAddr{registers_.rip};
  return {};
}

bool TracedThread::write_registers() {
  return trace(PTRACE_SETREGS, thread_, 0, &registers_) == 0;
}

bool TracedThread::detach(int signal) {
  const bool detached =
      trace(PTRACE_DETACH, thread_, 0, as_data(static_cast<std::uint64_t>(signal))) == 0;
  if (detached)
    alive_ = false;
  return detached;
}

Result<long> TracedThread::system_call(long number, std::array<std::uint64_t, 6> arguments) {
  if (!alive_)
    return fail(ESRCH, "the client is gone");
  const arch::SystemCall call{.number = static_cast<std::uint64_t>(number), .arguments = arguments};
  const arch::Registers registers =
      arch::about_to_make(guise_.value_or(call), call_site_, registers_);
  made_thread_.reset();
  for (;;) {
    if (trace(PTRACE_SETREGS, thread_, 0, &registers) != 0)
      return lost("PTRACE_SETREGS");
    VFIO_SHIM_TRY(enter(call));
    const auto result = leave(call);
    if (!result || !is_to_be_made_again(*result))
      return result;
  }
}

/// Lets the thread go to the entry of its next system call, which must be @p call.
Result<void> TracedThread::enter(const arch::SystemCall &call) {
  do {
    VFIO_SHIM_TRY(resume());
    // All others are blocked, so its code has raised this one: it is not what we wanted to run.
    if (is_signal_stop(stop_status_) && WSTOPSIG(stop_status_) != SIGSTOP)
      return fail(EFAULT, "the client has changed the code that it calls us from");
  } while (!is_system_call_stop(stop_status_));
  const auto right = is_about_to_make(guise_.value_or(call));
  if (!right)
    return pass_on(right);
  if (!*right)
    return skip_call();
  VFIO_SHIM_TRY(judge_by_filters(false));
  if (!guise_)
    return {};
  const arch::Registers itself = arch::in(call, call_site_, registers_);
  if (trace(PTRACE_SETREGS, thread_, 0, &itself) != 0)
    return lost("PTRACE_SETREGS");
  return {};
}

/// Lets the thread make the call that it has entered.
/// @return As the kernel leaves it, or the call's errno.
Result<long> TracedThread::leave(const arch::SystemCall &call) {
  for (;;) {
    VFIO_SHIM_TRY(resume());
    if (is_system_call_stop(stop_status_))
      break;
    if (is_event(stop_status_, PTRACE_EVENT_CLONE))
      note_made_thread();
  }
  VFIO_SHIM_TRY(judge_by_filters(true));
  std::uint64_t returned = 0;
  if (!peek_register(thread_, offsetof(arch::Registers, rax), returned))
    return lost("PTRACE_PEEKUSER");
  const long result = static_cast<long>(returned);
  if (result < 0 && result >= -highest_errno && !is_to_be_made_again(result))
    return fail(static_cast<int>(-result), fmt::format("borrowed system call {}", call.number));
  return result;
}

/// What clone() returns is the client's name for it, which may be of another PID namespace.
void TracedThread::note_made_thread() {
  unsigned long thread = 0;
  if (trace(PTRACE_GETEVENTMSG, thread_, 0, &thread) == 0)
    made_thread_ = Tid{static_cast<int>(thread)};
}

Result<bool> TracedThread::is_about_to_make(const arch::SystemCall &call) {
  __ptrace_syscall_info info{};
  if (trace(PTRACE_GET_SYSCALL_INFO, thread_, sizeof(info), &info) <= 0)
    return lost("PTRACE_GET_SYSCALL_INFO");
  return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.arch == arch::audit_arch &&
         info.instruction_pointer == call_site_.value && info.entry.nr == call.number &&
         std::ranges::equal(std::span(info.entry.args), call.arguments);
}

/// The thread has entered a system call that it was not told to make: it leaves without having
/// made it.
Result<void> TracedThread::skip_call() {
  arch::Registers none = registers_;
  none.rip = call_site_.value; // Where it would mend itself.
  none.orig_rax = arch::no_system_call;
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
bool TracedThread::has_filters() const {
  // Only the length is asked for: less than a look at /proc costs.
  return trace(PTRACE_SECCOMP_GET_FILTER, thread_, 0, nullptr) >= 0 || errno == EMEDIUMTYPE;
}

/// Filters are not run here: one that names the ioctl, and has calls answered by a listener, is
/// taken to mean just that. Who builds another one has his own calls misunderstood.
bool TracedThread::is_trapped(unsigned int command) const {
  const auto names_it = [command](const sock_filter &instruction) {
    return instruction.code == (BPF_JMP | BPF_JEQ | BPF_K) && instruction.k == command;
  };
  const auto asks_a_listener = [](const sock_filter &instruction) {
    return instruction.code == (BPF_RET | BPF_K) &&
           (instruction.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF;
  };
  for (std::uint64_t filter = 0;; ++filter) {
    const long length = trace(PTRACE_SECCOMP_GET_FILTER, thread_, filter, nullptr);
    if (length < 0 && errno != EMEDIUMTYPE)
      return false; // It was the last one.
    std::vector<sock_filter> program(length < 0 ? 0 : static_cast<std::size_t>(length));
    if (!program.empty() &&
        trace(PTRACE_SECCOMP_GET_FILTER, thread_, filter, program.data()) == length &&
        std::ranges::any_of(program, names_it) && std::ranges::any_of(program, asks_a_listener))
      return true;
  }
}

Result<void> TracedThread::judge_by_filters(bool yes) {
  if (!can_suspend_filters())
    return {}; // It has none: see BorrowedThread::borrow().
  if (trace(PTRACE_SETOPTIONS, thread_, 0,
            as_data(yes ? options : options | PTRACE_O_SUSPEND_SECCOMP)) != 0)
    return lost("PTRACE_SETOPTIONS");
  return {};
}

/// Lets the thread run until its next stop. SIGSTOP cannot be blocked: it is passed on, and takes
/// effect on this thread when it is given back.
Result<void> TracedThread::resume() {
  const bool stopping = is_signal_stop(stop_status_) && WSTOPSIG(stop_status_) == SIGSTOP;
  if (trace(PTRACE_SYSCALL, thread_, 0, as_data(stopping ? SIGSTOP : 0)) != 0)
    return lost("resuming the borrowed thread");
  return wait_for_stop();
}

/// As waitpid(): it may be interrupted, and then wants to be called again.
pid_t TracedThread::await_change() {
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

Result<void> TracedThread::wait_for_stop() {
  for (;;) {
    const pid_t waited = await_change();
    if (waited == thread_.value && WIFSTOPPED(stop_status_) &&
        !is_event(stop_status_, PTRACE_EVENT_EXIT))
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
tl::unexpected<Error> TracedThread::lost(const char *where) {
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

void TracedThread::may_trace_another() {
  traces_a_dead_client = true;
}

bool TracedThread::tracer_must_retire() {
  return traces_a_dead_client;
}

} // namespace vfio_shim::client
