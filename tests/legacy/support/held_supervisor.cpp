// SPDX-License-Identifier: MIT
#include "held_supervisor.h"

#include "client/answer.h"

#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

namespace legacy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Whether a process listens to the system calls of others.
bool is_a_supervisor(const fs::path &process) {
  std::error_code error;
  for (fs::directory_iterator file{process / "fd", error}, end; !error && file != end;
       file.increment(error)) {
    std::error_code gone;
    if (fs::read_symlink(file->path(), gone) == "anon_inode:seccomp notify")
      return true;
  }
  return false;
}

pid_t find_supervisor() {
  for (const auto &entry : fs::directory_iterator{"/proc"}) {
    const std::string name = entry.path().filename();
    if (std::isdigit(static_cast<unsigned char>(name[0])) != 0 && is_a_supervisor(entry.path()))
      return std::atoi(name.c_str());
  }
  throw std::runtime_error{"nobody supervises this process: start it with `vfio-shim run`"};
}

long trace(int request, pid_t thread, unsigned long address, unsigned long data) {
  return ::ptrace(static_cast<__ptrace_request>(request), thread, address, data);
}

bool is_event(int status, int event) {
  return (status >> 16) == event;
}

} // namespace

std::vector<Provider> supervised_providers() {
  auto providers = providers_like_type1_in(Behaviour::KvmGroups);
  std::erase_if(providers, [](const Provider &provider) { return !provider.is_shim(); });
  return providers;
}

HeldSupervisor::HeldSupervisor(std::optional<long> also)
    : process_{find_supervisor()}, also_{also} {
  if (trace(PTRACE_SEIZE, process_, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE) != 0)
    throw_errno("PTRACE_SEIZE of the supervisor");
  threads_.insert(process_);
}

/// Whether a thread that has stopped at a system call is about to act on a thread by its id.
bool HeldSupervisor::is_about_to_act(pid_t thread) const {
  __ptrace_syscall_info call{};
  if (trace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(call),
            reinterpret_cast<unsigned long>(&call)) <= 0 ||
      call.op != PTRACE_SYSCALL_INFO_ENTRY)
    return false;
  const auto request = static_cast<long>(call.entry.args[0]);
  return call.entry.nr == SYS_process_vm_writev ||
         (call.entry.nr == SYS_ptrace && (request == PTRACE_SEIZE || request == also_));
}

HeldSupervisor::~HeldSupervisor() {
  let_go();
}

bool HeldSupervisor::is_held_within(std::chrono::milliseconds patience) {
  if (held_ != 0)
    trace(PTRACE_SYSCALL, std::exchange(held_, 0), 0, 0);
  for (const auto end = Clock::now() + patience; Clock::now() < end;) {
    for (const pid_t thread : std::set<pid_t>{threads_}) {
      int status = 0;
      if (::waitpid(thread, &status, __WALL | WNOHANG) == thread && handle_stop(thread, status)) {
        held_ = thread;
        return true;
      }
    }
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

bool HeldSupervisor::handle_stop(pid_t thread, int status) {
  if (!WIFSTOPPED(status)) {
    threads_.erase(thread);
    return false;
  }
  if (is_event(status, PTRACE_EVENT_CLONE)) {
    unsigned long made = 0;
    trace(PTRACE_GETEVENTMSG, thread, 0, reinterpret_cast<unsigned long>(&made));
    threads_.insert(static_cast<pid_t>(made));
  }
  const bool at_a_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
  if (at_a_call && is_about_to_act(thread))
    return true;
  const bool signalled = !at_a_call && (status >> 16) == 0;
  trace(thread == process_ ? PTRACE_CONT : PTRACE_SYSCALL, thread, 0,
        signalled ? static_cast<unsigned long>(WSTOPSIG(status)) : 0);
  return false;
}

/// A thread must stand still to be let go.
void HeldSupervisor::let_go() {
  for (const pid_t thread : threads_) {
    int status = 0;
    if (thread != held_ && (trace(PTRACE_INTERRUPT, thread, 0, 0) != 0 ||
                            ::waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)))
      continue;
    const bool signalled = thread != held_ && (status >> 16) == 0 && WSTOPSIG(status) != SIGTRAP &&
                           WSTOPSIG(status) != (SIGTRAP | 0x80);
    trace(PTRACE_DETACH, thread, 0, signalled ? static_cast<unsigned long>(WSTOPSIG(status)) : 0);
  }
  threads_.clear();
  held_ = 0;
}

void HeldSupervisor::kill() {
  ::kill(process_, SIGKILL);
  threads_.clear();
  held_ = 0;
}

bool HeldSupervisor::finishes_within(std::chrono::milliseconds patience) {
  let_go();
  const fs::path threads = "/proc/" + std::to_string(process_) + "/task";
  for (const auto end = Clock::now() + patience; Clock::now() < end;) {
    if (std::distance(fs::directory_iterator{threads}, fs::directory_iterator{}) == 1)
      return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

} // namespace legacy
