// SPDX-License-Identifier: MIT
#include "daemon/agent_process.hpp"

#include "observe/ledger_directory.hpp"

#include <algorithm>
#include <csignal>
#include <utility>
#include <vector>

#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/prefix.hpp"
#include "supervise/agent.hpp"

namespace vfio_shim::daemon {

namespace {

/// Of the socket in the agent.
constexpr int socket_number = 3;

/// The worker's program, whatever lies at its path by now. It has threads: fork() alone would not
/// do.
Result<pid_t> spawn(const Fd &socket, std::vector<std::string> arguments) {
  std::vector<char *> pointers;
  for (std::string &argument : arguments)
    pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_t attributes{};
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_t actions{};
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, socket.get(), socket_number);
  pid_t pid = 0;
  const int error =
      ::posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0)
    return fail(error, "posix_spawn");
  return pid;
}

} // namespace

std::filesystem::path agent_socket(std::string prefix) {
  std::ranges::replace(prefix, '/', '.');
  return std::filesystem::path(observe::ledger_directory) / (prefix + ".seccomp");
}

Result<AgentProcess> AgentProcess::start(const std::string &prefix) {
  auto path = agent_socket(prefix);
  const auto socket = supervise::listen_for_listeners(path);
  if (!socket)
    return pass_on(socket);
  const auto pid =
      spawn(*socket, {"vfio-shim", "agent", "--socket", std::to_string(socket_number), "--parent",
                      std::to_string(::getpid()), "--node", container_node(prefix), "--log-level",
                      std::string(spdlog::level::to_string_view(spdlog::get_level()).data())});
  if (!pid)
    return pass_on(pid);
  // Without one its end goes unnoticed.
  Fd process{static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0U))};
  return AgentProcess(*pid, std::move(process), std::move(path));
}

AgentProcess::AgentProcess(AgentProcess &&other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      process_(std::move(other.process_)),
      socket_(std::move(other.socket_)) {}

AgentProcess::~AgentProcess() {
  if (pid_ == 0)
    return;
  ::unlink(socket_.c_str());
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

} // namespace vfio_shim::daemon
