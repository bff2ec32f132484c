// SPDX-License-Identifier: MIT
#include "doomed_daemon.h"

#include "client/answer.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "patience.h"

namespace legacy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char *prefix = "vfio-shim.doomed";

long trace(int request, pid_t thread, unsigned long address, unsigned long data) {
  return ::ptrace(static_cast<__ptrace_request>(request), thread, address, data);
}

[[noreturn]] void become_daemon() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string program = fs::read_symlink("/proc/self/exe").parent_path() / "vfio-shim";
  ::execl(program.c_str(), program.c_str(), "serve", "--prefix", prefix, "--log-level", "error",
          nullptr);
  ::_exit(127);
}

/// A dead one's nodes can be there for a moment. A node is not there before its container's.
bool serves(GroupId group) {
  const Provider provider = DoomedDaemon::provider();
  const int file = ::open(provider.container.c_str(), O_RDWR | O_CLOEXEC);
  if (file >= 0)
    ::close(file);
  return file >= 0 && fs::exists(provider.group_path(group));
}

/// Whether a thread that has stopped at a system call is about to seize a thread.
bool is_about_to_seize(pid_t thread) {
  __ptrace_syscall_info call{};
  return trace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(call),
               reinterpret_cast<unsigned long>(&call)) > 0 &&
         call.op == PTRACE_SYSCALL_INFO_ENTRY && call.entry.nr == SYS_ptrace &&
         call.entry.args[0] == PTRACE_SEIZE;
}

} // namespace

Provider DoomedDaemon::provider() {
  const std::string groups = std::string{"/dev/"} + prefix;
  return {.name = providers::shim,
          .container = groups + "/vfio",
          .groups = groups,
          .notes = "a daemon that dies"};
}

DoomedDaemon::DoomedDaemon(GroupId group) {
  process_ = ::fork();
  if (process_ < 0)
    throw_errno("fork");
  if (process_ == 0)
    become_daemon();
  if (!within(10s, [group] { return serves(group); })) {
    kill();
    throw std::runtime_error{"the daemon does not get ready"};
  }
}

DoomedDaemon::~DoomedDaemon() {
  kill();
}

/// Its worker dies with it.
void DoomedDaemon::kill() {
  if (process_ == 0)
    return;
  pid_t worker = 0;
  try {
    worker = daemon_of(provider());
  } catch (const std::runtime_error &) {
    worker = worker_; // It has just died.
  }
  ::kill(process_, SIGKILL);
  kill_worker();
  ::waitpid(process_, nullptr, __WALL);
  within(5s, [worker] { return worker == 0 || ::kill(worker, 0) != 0; });
  process_ = 0;
}

void DoomedDaemon::kill_worker() {
  if (worker_ == 0)
    return;
  ::kill(worker_, SIGKILL);
  for (const pid_t thread : threads_)
    if (thread != worker_)
      ::waitpid(thread, nullptr, __WALL);
  ::waitpid(worker_, nullptr, __WALL);
  threads_.clear();
  worker_ = 0;
}

void DoomedDaemon::seize(pid_t thread) {
  if (trace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE) != 0)
    throw_errno("PTRACE_SEIZE of the daemon");
  threads_.insert(thread);
  trace(PTRACE_INTERRUPT, thread, 0, 0); // From its next stop on it stops at system calls.
}

void DoomedDaemon::watch() {
  worker_ = daemon_of(provider());
  for (const auto &entry : fs::directory_iterator{"/proc/" + std::to_string(worker_) + "/task"})
    seize(std::stoi(entry.path().filename()));
}

bool DoomedDaemon::dies_at(int step, Dies what, const std::function<bool()> &over) {
  int steps = 0;
  while (!over()) {
    for (const pid_t thread : std::set<pid_t>{threads_}) {
      int status = 0;
      if (::waitpid(thread, &status, __WALL | WNOHANG) != thread || !handle_stop(thread, status))
        continue;
      if (++steps == step) {
        what == Dies::Everything ? kill() : kill_worker();
        return true;
      }
      trace(PTRACE_SYSCALL, thread, 0, 0);
    }
    ::sched_yield();
  }
  return false;
}

/// Lets the thread go on, unless it is at a step of a borrow.
bool DoomedDaemon::handle_stop(pid_t thread, int status) {
  if (!WIFSTOPPED(status)) {
    threads_.erase(thread);
    return false;
  }
  if ((status >> 16) == PTRACE_EVENT_CLONE) {
    unsigned long made = 0;
    trace(PTRACE_GETEVENTMSG, thread, 0, reinterpret_cast<unsigned long>(&made));
    threads_.insert(static_cast<pid_t>(made));
  }
  const bool at_a_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
  if (at_a_call && borrower_ == 0 && is_about_to_seize(thread))
    borrower_ = thread;
  if (at_a_call && thread == borrower_)
    return true;
  const bool signalled = !at_a_call && (status >> 16) == 0;
  trace(PTRACE_SYSCALL, thread, 0, signalled ? static_cast<unsigned long>(WSTOPSIG(status)) : 0);
  return false;
}

} // namespace legacy
