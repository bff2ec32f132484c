// SPDX-License-Identifier: MIT
#include "daemon/private_daemon.hpp"

#include "observe/shared_ledger.hpp"

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/follow_parent.hpp"

namespace vfio_shim::daemon {

namespace {

/// The life of the daemon's process. @return Its exit status.
int live(DaemonOptions options, pid_t parent, Fd &ready) {
  ::setsid(); // ^C is for the command.
  follow_parent(SIGUSR1, parent);
  ::unsetenv("NOTIFY_SOCKET"); // Of whoever has started the command: it is not about us.
  options.remember_numbers = false;
  options.ready = [&ready] {
    [[maybe_unused]] const ssize_t written = ::write(ready.get(), "", 1);
    ready.reset();
  };
  const auto done = run_daemon(options);
  if (!done)
    spdlog::error("{}", done.error().where);
  return done.value_or(EXIT_FAILURE);
}

} // namespace

Result<PrivateDaemon> PrivateDaemon::start(DaemonOptions options) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0)
    return fail_errno("pipe");
  const Fd ready_reader{pipe[0]};
  Fd ready_writer{pipe[1]};
  PrivateDaemon daemon;
  daemon.prefix_ = options.server.prefix = fmt::format("vfio-shim.{}", ::getpid());
  const pid_t parent = ::getpid();
  daemon.pid_ = ::fork();
  if (daemon.pid_ < 0)
    return fail_errno("fork");
  if (daemon.pid_ == 0)
    ::_exit(live(std::move(options), parent, ready_writer));
  ready_writer.reset();
  char byte = 0;
  if (::read(ready_reader.get(), &byte, 1) != 1) {
    ::waitpid(daemon.pid_, nullptr, 0);
    daemon.pid_ = 0;
    return fail(ENODEV, "");
  }
  return daemon;
}

PrivateDaemon::PrivateDaemon(PrivateDaemon &&other) noexcept
    : pid_(std::exchange(other.pid_, 0)), prefix_(std::move(other.prefix_)) {}

PrivateDaemon::~PrivateDaemon() {
  if (pid_ == 0)
    return;
  ::kill(pid_, SIGUSR1);
  constexpr int patience = 200;
  for (int tries = 0; tries < patience; ++tries) {
    if (::waitpid(pid_, nullptr, WNOHANG) != 0) {
      observe::SharedLedger::remove_left_behind(prefix_); // Of a daemon that was killed.
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  spdlog::warn("the command has left processes that use the nodes: the daemon (pid {}) stays "
               "until they end",
               pid_);
}

} // namespace vfio_shim::daemon
