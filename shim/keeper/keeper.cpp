#include "keeper/keeper.hpp"

#include <algorithm>
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

namespace vfio_shim::keeper {

namespace {

using Clock = std::chrono::steady_clock;

/// Kept for the program that comes next.
constexpr const char *predecessor_name = "predecessor";

Result<Fd> take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGCHLD})
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
  auto started = start_worker(std::move(files_[predecessor_name]));
  for (;;) {
    if (!started) {
      spdlog::error("no worker can be started: {}", started.error().describe());
      return EXIT_FAILURE;
    }
    wait_for_news();
    handle_messages();
    handle_signals();
    if (!worker_has_gone())
      continue;
    handle_messages(); // Its last ones.
    if (worker_.stopping || worker_.mortal || !served_once_)
      return status_of_worker();
    if (upgrading_)
      become_next_program();
    started = replace_worker();
  }
}

Result<void> Keeper::start_worker(Fd predecessor) {
  files_.erase(predecessor_name);
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
                   .predecessor = std::move(predecessor),
                   .since = gone_since_}));
  }
  worker_ = {.pid = pid,
             .process = Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U))},
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
    case SIGCHLD: // The worker that we have is asked by its pidfd.
      std::erase_if(past_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
      break;
    case SIGHUP:
      begin_upgrade();
      break;
    default:
      ::kill(worker_.pid, static_cast<int>(signal.ssi_signo));
    }
  }
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
    constexpr std::uint64_t patience_us = 1'000'000;
    tell_manager(message.text);
    ::sd_notify_barrier(0, patience_us); // At once if there is no manager.
    files_.erase(name);
    (void)send(worker_.messages, "\n");
  } else if (message.value_of(ready_line) == "1") {
    tell_manager("READY=1");
    worker_.ready = served_once_ = true;
    failures_ = 0;
  } else if (message.value_of(stopping_line) == "1") {
    tell_manager("STOPPING=1");
    worker_.stopping = true;
  } else if (message.value_of(mortal_line) == "1") {
    worker_.mortal = true;
  } else if (message.value_of(life_line) == "1") {
    worker_.life = std::move(message.file);
  }
}

/// Whether it will do nothing more. One that is told to end is waited for.
bool Keeper::worker_has_gone() const {
  return has_news(worker_.process) ||
         (!worker_.stopping && served_once_ && has_news(worker_.life));
}

int Keeper::status_of_worker() const {
  int status = 0;
  if (::waitpid(worker_.pid, &status, 0) != worker_.pid || !WIFEXITED(status))
    return EXIT_FAILURE;
  return WEXITSTATUS(status);
}

Result<void> Keeper::replace_worker() {
  constexpr int most_failures = 20;
  constexpr int at_once = 3;
  constexpr std::chrono::milliseconds pause{200};
  if (worker_.ready)
    gone_since_ = Clock::now();
  else if (++failures_ == most_failures)
    return fail(EAGAIN, fmt::format("{} have died at their start", most_failures));
  if (failures_ > at_once)
    std::this_thread::sleep_for(pause);
  if (::waitpid(worker_.pid, nullptr, WNOHANG) == 0)
    past_.push_back(worker_.pid);
  spdlog::warn("the worker (pid {}) has died: another one takes over", worker_.pid);
  return start_worker(std::move(worker_.process));
}

void Keeper::begin_upgrade() {
  if (upgrading_ || upgrade_.command.empty() || !upgrade_.may_follow())
    return;
  upgrading_ = true;
  gone_since_ = Clock::now();
  ::kill(worker_.pid, SIGUSR2);
}

/// Returns only if that fails. Then this program goes on.
void Keeper::become_next_program() {
  upgrading_ = false;
  if (Fd old = worker_.process.duplicate())
    files_.insert_or_assign(predecessor_name, std::move(old));
  std::vector<char *> arguments;
  for (std::string &argument : upgrade_.command)
    arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  auto left = leave_to_next_program(files_);
  if (left && ::execv(arguments.front(), arguments.data()) != 0)
    left = fail_errno(upgrade_.command.front());
  spdlog::error("no upgrade, this program goes on: {}", left.error().describe());
}

} // namespace vfio_shim::keeper
