// SPDX-License-Identifier: MIT
#include "keeper/keeper.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "keeper/pidfd.hpp"

namespace vfio_shim::keeper {

namespace {

using Clock = std::chrono::steady_clock;

// What of the worker is passed on to the program that comes next.
constexpr std::string_view process_name = "worker";
constexpr std::string_view life_name = "life";
constexpr std::string_view messages_name = "messages";

Result<Fd> take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  ::signal(SIGCHLD, SIG_DFL); // Whoever has started us may have ignored it.
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP, SIGCHLD})
    sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  Fd taken{::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!taken)
    return fail_errno("signalfd");
  return taken;
}

bool has_news(const Fd &file) {
  pollfd asked{.fd = file.get(), .events = POLLIN, .revents = 0};
  return file && ::poll(&asked, 1, 0) == 1;
}

/// Tells the service manager, if there is one.
void tell_manager(const std::string &text, const Fd &file = Fd{}) {
  const int descriptor = file.get();
  ::sd_pid_notify_with_fds(0, 0, text.c_str(), &descriptor, file ? 1 : 0);
}

/// Waits until the service manager has heard all that. At once if there is none.
void await_manager() {
  constexpr std::uint64_t patience_us = 1'000'000;
  ::sd_notify_barrier(0, patience_us);
}

} // namespace

Keeper::Keeper(KeptFiles files, std::function<int(Inheritance)> work, Upgrade upgrade)
    : files_(std::move(files)), work_(std::move(work)), upgrade_(std::move(upgrade)) {}

int Keeper::run() {
  auto signals = take_signals();
  if (!signals) {
    spdlog::error("the keeper: {}", signals.error().describe());
    return EXIT_FAILURE;
  }
  signals_ = std::move(*signals);
  served_once_ = !files_.empty();
  Result<void> started;
  if (!inherit_worker())
    started = start_worker();
  for (;;) {
    if (!started) {
      spdlog::error("no worker can be started: {}", started.error().describe());
      return EXIT_FAILURE;
    }
    wait_for_news();
    handle_messages();
    handle_signals();
    if (upgrade_asked_ && worker_.ready && !makes_way_) { // Or as soon as that is so.
      upgrade_asked_ = false;
      become_next_program();
    }
    if (!worker_has_gone())
      continue;
    handle_messages(); // Its last ones.
    if (worker_.stopping || worker_.mortal || !served_once_)
      return status_of_worker();
    started = replace_worker();
  }
}

Result<void> Keeper::start_worker() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail_errno("socketpair");
  Fd ours{pair[0]};
  Fd theirs{pair[1]};
  const pid_t keeper = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0)
    return fail_errno("fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != keeper)
      ::_exit(EXIT_FAILURE);
    ours.reset();
    signals_.reset();
    ::_exit(work_({.keeper = std::move(theirs),
                   .files = std::move(files_),
                   .predecessors = std::move(past_),
                   .since = gone_since_}));
  }
  worker_ = {.process = Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U))},
             .pid = pid,
             .life = {},
             .messages = std::move(ours)};
  return {};
}

void Keeper::wait_for_news() {
  std::array<pollfd, 4> events{{{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                {.fd = worker_.messages.get(), .events = POLLIN, .revents = 0},
                                {.fd = worker_.process.get(), .events = POLLIN, .revents = 0},
                                {.fd = worker_.life.get(), .events = POLLIN, .revents = 0}}};
  ::poll(events.data(), events.size(), -1);
}

void Keeper::handle_signals() {
  signalfd_siginfo signal{};
  while (::read(signals_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
    switch (signal.ssi_signo) {
    case SIGCHLD:
      reap_others();
      break;
    case SIGHUP:
      upgrade_asked_ = true;
      break;
    case SIGUSR2: // Ours to give.
      break;
    default:
      told_ = static_cast<int>(signal.ssi_signo);
      tell_worker(told_);
    }
  }
}

void Keeper::tell_worker(int signal) const {
  ::syscall(SYS_pidfd_send_signal, worker_.process.get(), signal, nullptr, 0U);
}

/// A worker that has died may not have heard it.
void Keeper::tell_again() const {
  if (told_ != 0)
    tell_worker(told_);
}

void Keeper::handle_messages() {
  while (worker_.messages) {
    auto message = receive(worker_.messages);
    if (!message) {
      if (message.error().code != EAGAIN)
        worker_.messages.reset();
      return;
    }
    handle(std::move(*message));
  }
}

void Keeper::handle(Message message) {
  const std::string name(message.value_of(name_line));
  if (message.value_of(store_line) == "1" && message.file) {
    tell_manager(message.text + "\nFDPOLL=0", message.file);
    files_.insert_or_assign(name, std::move(message.file));
  } else if (message.value_of(remove_line) == "1") {
    tell_manager(message.text);
    await_manager();
    files_.erase(name);
    (void)send(worker_.messages, "\n");
  } else if (message.value_of(forget_line) == "1") {
    forget_all();
    (void)send(worker_.messages, "\n");
  } else if (message.value_of(ready_line) == "1") {
    tell_manager("READY=1");
    worker_.ready = served_once_ = true;
    failures_ = 0;
    past_.clear(); // This worker has waited for them, long enough.
  } else if (message.value_of(stopping_line) == "1") {
    tell_manager("STOPPING=1");
    worker_.stopping = true;
  } else if (message.value_of(mortal_line) == "1") {
    worker_.mortal = true;
  } else if (message.value_of(life_line) == "1") {
    worker_.life = std::move(message.file);
  }
}

void Keeper::forget_all() {
  for (const auto &[name, file] : files_)
    tell_manager(fmt::format("{}=1\n{}={}", remove_line, name_line, name));
  await_manager();
  files_.clear();
}

/// Whether it will do nothing more.
bool Keeper::worker_has_gone() const {
  return has_news(worker_.process) || (served_once_ && has_news(worker_.life));
}

/// One that is told to end has done all that it had to when it dies. A thread of it may be held in
/// the kernel, by a client's file server: nobody waits for that.
int Keeper::status_of_worker() const {
  constexpr int patience_ms = 2000;
  pollfd ended{.fd = worker_.process.get(), .events = POLLIN, .revents = 0};
  int status = 0;
  if (worker_.stopping && ::poll(&ended, 1, patience_ms) == 0)
    return EXIT_SUCCESS;
  if (::waitpid(worker_.pid, &status, 0) != worker_.pid || !WIFEXITED(status))
    return EXIT_FAILURE;
  return WEXITSTATUS(status);
}

/// Of the worker that we have, its pidfd tells.
void Keeper::reap_others() {
  std::erase_if(past_, has_news);
  siginfo_t ended{};
  while (::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0 &&
         ended.si_pid != worker_.pid)
    ::waitpid(ended.si_pid, nullptr, WNOHANG);
}

Result<void> Keeper::replace_worker() {
  constexpr int most_failures = 20;
  constexpr int at_once = 3;
  constexpr std::chrono::milliseconds pause{200};
  if (!worker_.ready && ++failures_ == most_failures)
    return fail(EAGAIN, fmt::format("{} have died at their start", most_failures));
  if (failures_ > at_once)
    std::this_thread::sleep_for(pause);
  if (!std::exchange(makes_way_, false)) {
    if (worker_.ready)
      gone_since_ = Clock::now();
    spdlog::warn("the worker (pid {}) has died: another one takes over", worker_.pid);
  }
  past_.push_back(std::move(worker_.process));
  worker_ = {}; // Nothing of it is the next one's.
  reap_others();
  auto started = start_worker();
  for (int tries = 0; !started && tries < most_failures; ++tries) {
    std::this_thread::sleep_for(pause); // For want of memory, or of a process that is just ending.
    started = start_worker();
  }
  tell_again();
  return started;
}

/// Returns only if that fails. Then this program goes on. The worker goes on in any case.
void Keeper::become_next_program() {
  if (told_ != 0 || worker_.stopping || upgrade_.command.empty() || !upgrade_.may_follow())
    return;
  handle_messages();
  std::vector<char *> arguments;
  for (std::string &argument : upgrade_.command)
    arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  files_[std::string(process_name)] = worker_.process.duplicate();
  files_[std::string(life_name)] = worker_.life.duplicate();
  files_[std::string(messages_name)] = worker_.messages.duplicate();
  auto left = leave_to_next_program(files_);
  if (left && ::execv(arguments.front(), arguments.data()) != 0)
    left = fail_errno(upgrade_.command.front());
  spdlog::error("no upgrade, this program goes on: {}", left.error().describe());
  keep_from_next_program(files_);
  for (const std::string_view name : {process_name, life_name, messages_name})
    files_.erase(std::string(name));
}

/// If this program follows another one, that one's worker is still there, and makes way now.
bool Keeper::inherit_worker() {
  const auto take = [this](std::string_view name) {
    const auto kept = files_.extract(std::string(name));
    return kept ? std::move(kept.mapped()) : Fd{};
  };
  worker_.process = take(process_name);
  worker_.life = take(life_name);
  worker_.messages = take(messages_name);
  if (!worker_.process || !worker_.messages)
    return false;
  worker_.pid = process_behind(worker_.process).value;
  worker_.ready = true;
  makes_way_ = true;
  gone_since_ = Clock::now();
  tell_worker(SIGUSR2);
  return true;
}

} // namespace vfio_shim::keeper
