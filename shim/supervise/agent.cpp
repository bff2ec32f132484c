// SPDX-License-Identifier: MIT
#include "supervise/agent.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervise/process_state.hpp"
#include "supervise/supervisor.hpp"

namespace vfio_shim::supervise {

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// How long who connects may take to say what he wants.
constexpr auto patience = 5s;

/// The processes that this one has started, with the users that they serve.
class Supervisors {
public:
  explicit Supervisors(const AgentLimits &limits) : limits_(limits) {}

  bool has_room_for(uid_t user) const {
    const auto of_user =
        std::ranges::count(users_, user, [](const auto &entry) { return entry.second; });
    const std::size_t room = user == 0 ? limits_.total : limits_.total - limits_.of_root;
    return users_.size() < room &&
           (user == 0 || static_cast<std::size_t>(of_user) < limits_.per_user);
  }
  void add(pid_t process, uid_t user) { users_.emplace(process, user); }
  void forget_ended() {
    for (pid_t ended = 0; (ended = ::waitpid(-1, nullptr, WNOHANG)) > 0;)
      users_.erase(ended);
  }

private:
  AgentLimits limits_;
  std::map<pid_t, uid_t> users_;
};

/// The life of the process behind one connection.
[[noreturn]] void serve_connection(Fd connection, uid_t user, const fs::path &node) {
  ::setsid();
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  std::ofstream("/proc/self/oom_score_adj") << "0\n"; // The daemon's own is not for everybody's.
  auto handed = take_listener(connection, patience);
  if (!handed) {
    spdlog::debug("user {} has handed over nothing to supervise: {}", user,
                  handed.error().describe());
    answer(connection, handed.error().describe());
    ::_exit(0);
  }
  spdlog::debug("supervising {} of user {}", handed->who, user);
  answer(connection);
  connection.reset();
  supervise(std::move(handed->listener), node);
}

} // namespace

Result<Fd> listen_for_listeners(const fs::path &path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string temporary = path.string() + ".new";
  if (temporary.size() >= sizeof(address.sun_path))
    return fail(ENAMETOOLONG, temporary);
  std::memcpy(address.sun_path, temporary.data(), temporary.size());
  constexpr mode_t everybody = 0666;
  constexpr int waiting_connections = 128;
  ::unlink(temporary.c_str());
  Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  // Who connects to the one that is there reaches a listener at any time.
  if (!socket ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address)) != 0 ||
      ::chmod(temporary.c_str(), everybody) != 0 ||
      ::listen(socket.get(), waiting_connections) != 0 ||
      ::rename(temporary.c_str(), path.c_str()) != 0)
    return fail_errno(path);
  return socket;
}

void serve_as_agent(Fd socket, const fs::path &node, const AgentLimits &limits) {
  sigset_t child_ends;
  sigemptyset(&child_ends);
  sigaddset(&child_ends, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child_ends, nullptr);
  const Fd ends{::signalfd(-1, &child_ends, SFD_CLOEXEC | SFD_NONBLOCK)};
  Supervisors supervisors(limits);
  std::array<pollfd, 2> events{{{.fd = socket.get(), .events = POLLIN, .revents = 0},
                                {.fd = ends.get(), .events = POLLIN, .revents = 0}}};
  for (;;) {
    ::poll(events.data(), events.size(), -1);
    signalfd_siginfo signal{};
    while (::read(ends.get(), &signal, sizeof(signal)) > 0) {
    }
    supervisors.forget_ended();
    if ((events[0].revents & POLLIN) == 0)
      continue;
    Fd connection{::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (!connection) {
      if (errno != ECONNABORTED && errno != EINTR)
        std::this_thread::sleep_for(100ms); // For want of descriptors or memory.
      continue;
    }
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
      continue;
    if (!supervisors.has_room_for(peer.uid)) {
      spdlog::warn("user {} has too many programs supervised: another one is not", peer.uid);
      continue;
    }
    const pid_t process = ::fork();
    if (process == 0) {
      socket.reset();
      serve_connection(std::move(connection), peer.uid, node);
    }
    if (process > 0)
      supervisors.add(process, peer.uid);
  }
}

} // namespace vfio_shim::supervise
