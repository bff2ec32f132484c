// SPDX-License-Identifier: MIT
#include "process.hpp"

#include "client/answer.h"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <thread>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "text.hpp"

namespace chaos {

namespace {

int numbered_signal() {
  return SIGRTMIN + 1;
}

// What signal handlers touch has to be at file level.
std::atomic<int> received, out_of_order;

void count_numbered(int, siginfo_t *info, void *) {
  if (info->si_value.sival_int != received)
    ++out_of_order;
  ++received;
}

void take(int) {}

} // namespace

void limit(__rlimit_resource resource, rlim_t limit) {
  const rlimit both{limit, limit};
  legacy::Answer::of(::setrlimit(resource, &both)).or_throw("setrlimit");
}

void handle_signals() {
  // Without SA_RESTART, so that an interrupted call would show.
  struct sigaction action {};
  action.sa_handler = take;
  ::sigaction(SIGALRM, &action, nullptr);
  ::sigaction(SIGUSR1, &action, nullptr);
  action = {};
  action.sa_sigaction = count_numbered;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(numbered_signal(), &action, nullptr);
}

void ignore_signals() {
  for (const int signal : {SIGALRM, SIGUSR1, numbered_signal()})
    ::signal(signal, SIG_IGN);
}

void expect_numbered_signals() {
  received = 0;
  out_of_order = 0;
}

void send_numbered_signal(pid_t thread, int number) {
  siginfo_t info{};
  info.si_code = SI_QUEUE;
  info.si_pid = ::getpid();
  info.si_value.sival_int = number;
  ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), thread, numbered_signal(), &info);
}

NumberedSignals numbered_signals() {
  return {received, out_of_order};
}

int wait_for(pid_t child) {
  int status = -1;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      legacy::throw_errno("waitpid");
  return status;
}

bool ends_within(pid_t child, std::chrono::milliseconds patience) {
  const auto give_up = std::chrono::steady_clock::now() + patience;
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == child)
      return true;
    if (std::chrono::steady_clock::now() > give_up)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
}

std::string describe_end(int status) {
  if (WIFEXITED(status))
    return text("exited with %d", WEXITSTATUS(status));
  if (WIFSIGNALED(status))
    return text("died of signal %d (SIG%s)", WTERMSIG(status), ::sigabbrev_np(WTERMSIG(status)));
  return text("has status 0x%x", status);
}

std::optional<std::uint64_t> number_after(const std::string &contents, const std::string &label) {
  const auto at = contents.find(label);
  if (at == std::string::npos)
    return std::nullopt;
  const char *begin = contents.data() + at + label.size();
  const char *end = contents.data() + contents.size();
  while (begin != end && (*begin == ' ' || *begin == '\t'))
    ++begin;
  std::uint64_t number = 0;
  if (std::from_chars(begin, end, number).ec != std::errc{})
    return std::nullopt;
  return number;
}

} // namespace chaos
