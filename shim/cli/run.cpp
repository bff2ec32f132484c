// SPDX-License-Identifier: MIT
#include "cli/backend_option.hpp"
#include "cli/command_line.hpp"
#include "cli/express_option.hpp"
#include "cli/limit_options.hpp"
#include "cli/observing_options.hpp"

#include "vfio_shim/fd.hpp"

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/agent_process.hpp"
#include "daemon/follow_parent.hpp"
#include "daemon/prefix.hpp"
#include "daemon/private_daemon.hpp"
#include "supervise/process_state.hpp"
#include "supervise/supervisor.hpp"
#include "supervise/trap.hpp"

namespace vfio_shim::cli {

namespace {

constexpr int exit_not_executable = 126; // As the shells have it.
constexpr int exit_not_found = 127;

struct RunOptions {
  std::string prefix;
  bool private_daemon = false;
  bool supervised = true;
  bool unprivileged = false;
  std::string log_level = "warning";
  Limits limits;
  BackendChoice backend;
  ExpressChoice express;
  daemon::ObservingOptions observing;
  std::vector<std::string> command;
};

/// @param error Nothing to say (`where` is empty): somebody has said it already.
int complain(const Error &error) {
  if (!error.where.empty())
    spdlog::error("{}", error.where);
  return exit_failure;
}

/// Puts the nodes of @p prefix where legacy programs look, for this process and its children only.
Result<void> enter_view(const std::string &prefix) {
  if (prefix == "vfio")
    return {};
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return fail(errno,
                fmt::format("no private mount namespace ({}): must be root", errno_name(errno)));
  std::error_code ignored; // If it cannot be made, the mount says so.
  std::filesystem::create_directory("/dev/vfio", ignored);
  const std::string nodes = "/dev/" + prefix;
  if (::mount(nodes.c_str(), "/dev/vfio", nullptr, MS_BIND, nullptr) != 0)
    return fail(errno, fmt::format("mounting {} over /dev/vfio: {}", nodes, errno_name(errno)));
  return {};
}

/// @return The exit status that says why it could not.
int execute(const std::vector<std::string> &command) {
  std::vector<char *> arguments;
  for (const std::string &argument : command)
    arguments.push_back(const_cast<char *>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const int code = errno;
  spdlog::error("cannot run {}: {}", arguments[0], ::strerrordesc_np(code));
  return code == ENOENT ? exit_not_found : exit_not_executable;
}

[[noreturn]] void become_command(const RunOptions &options, const std::string &prefix,
                                 const supervise::Supervisor *supervisor,
                                 const sigset_t &signal_mask, pid_t parent) {
  daemon::follow_parent(SIGKILL, parent);
  const auto entered = enter_view(prefix);
  if (!entered)
    ::_exit(complain(entered.error()));
  if (supervisor != nullptr)
    if (const auto supervised = supervisor->supervise_this_process(); !supervised)
      spdlog::warn("KVM will not learn of groups, and buses cannot be reset: {}{}",
                   supervised.error().describe(),
                   supervised.error().code == EBUSY ? "; somebody has this program's calls trapped "
                                                      "already (`run` within `run`?)"
                                                    : "");
  ::sigprocmask(SIG_SETMASK, &signal_mask, nullptr);
  ::_exit(execute(options.command));
}

/// Whether this process may mount, and have its calls trapped without giving up rights.
bool is_privileged() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  return ::syscall(SYS_capget, &header, sets.data()) == 0 &&
         (sets[0].effective & (1U << CAP_SYS_ADMIN)) != 0;
}

/// The daemon's agent may be a moment away, while another worker takes over.
Result<Fd> call_agent(const std::string &prefix) {
  constexpr std::chrono::milliseconds pause{50};
  constexpr int tries = 60;
  auto connection = supervise::call_agent(daemon::agent_socket(prefix));
  for (int at = 0; at < tries && !connection && connection.error().code == ECONNREFUSED; ++at) {
    std::this_thread::sleep_for(pause);
    connection = supervise::call_agent(daemon::agent_socket(prefix));
  }
  return connection;
}

/// Has the daemon supervise this process, and all that it will start.
Result<void> have_daemon_supervise(const std::string &prefix) {
  constexpr std::chrono::seconds patience{10};
  if (!supervise::can_suspend_traps())
    return fail(ENOSYS, "that needs a kernel with CONFIG_CHECKPOINT_RESTORE");
  const auto connection = call_agent(prefix);
  if (!connection)
    return pass_on(connection);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return fail_errno("no_new_privs");
  const auto listener = supervise::trap_ioctls();
  if (!listener)
    return pass_on(listener);
  return supervise::hand_listener_over(*connection, *listener, patience);
}

/// Becomes the command: nothing is left to be done beside it.
int run_unprivileged(const RunOptions &options, bool needs_own_daemon) {
  if (needs_own_daemon)
    return complain({.code = EPERM, .where = "a daemon of one's own needs root"});
  const std::string prefix = options.prefix.empty() ? daemon::default_prefix() : options.prefix;
  const auto node = daemon::container_node(prefix);
  if (::access(node.c_str(), F_OK) != 0)
    return complain({.code = ENODEV,
                     .where = fmt::format("no daemon serves /dev/{}: somebody with root must start "
                                          "one, with `vfio-shim serve`",
                                          prefix)});
  if (prefix != "vfio")
    return complain({.code = EPERM,
                     .where = fmt::format("the daemon's nodes are in /dev/{}, and to put them "
                                          "where programs look needs root; on a kernel that has "
                                          "nodes in /dev/vfio itself, a daemon can take these "
                                          "over (`vfio-shim serve --take-over`)",
                                          prefix)});
  if (options.supervised)
    if (const auto done = have_daemon_supervise(prefix); !done)
      spdlog::warn("KVM will not learn of groups, and buses cannot be reset: {}",
                   done.error().describe());
  return execute(options.command);
}

/// Waits for @p child, and passes signals that are meant for it on to it.
int wait_for_command(pid_t child, const sigset_t &signals) {
  for (;;) {
    siginfo_t signal{};
    if (::sigwaitinfo(&signals, &signal) < 0)
      continue;
    int status = 0;
    if (signal.si_signo != SIGCHLD) {
      // What the terminal sends (^C) goes to the command directly.
      if (signal.si_code <= 0)
        ::kill(child, signal.si_signo);
    } else if (::waitpid(child, &status, WNOHANG) == child) {
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
  }
}

/// None if that is not wanted, or if it would keep the daemon from borrowing the command's threads.
std::optional<supervise::Supervisor> start_supervisor(const RunOptions &options,
                                                      const std::string &prefix) {
  if (!options.supervised)
    return std::nullopt;
  if (!supervise::can_suspend_traps()) {
    spdlog::warn(
        "KVM will not learn of groups, and buses cannot be reset: that needs a kernel with "
        "CONFIG_CHECKPOINT_RESTORE");
    return std::nullopt;
  }
  auto supervisor = supervise::Supervisor::start(daemon::container_node(prefix));
  if (!supervisor) {
    (void)complain(supervisor.error());
    return std::nullopt;
  }
  return std::move(*supervisor);
}

int run_command(const RunOptions &options, const std::string &prefix) {
  const auto supervisor = start_supervisor(options, prefix);
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH})
    sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0)
    become_command(options, prefix, supervisor ? &*supervisor : nullptr, before, parent);
  if (child < 0)
    return complain({.code = errno, .where = "fork"});
  return wait_for_command(child, signals);
}

daemon::DaemonOptions options_of_daemon(const RunOptions &options) {
  daemon::DaemonOptions daemon;
  daemon.server.mapping_limit = options.limits.mappings;
  daemon.server.iova_window = options.limits.iova_window;
  daemon.server.backend = options.backend.kind;
  daemon.server.express = options.express.predicate();
  daemon.observing = options.observing;
  return daemon;
}

int run(const RunOptions &options) {
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  if (options.express.asks_too_much(options.backend.kind) || options.backend.asks_too_much())
    return exit_usage;
  // A daemon that serves may have another backend or other limits, and records nothing for us.
  const bool private_daemon = options.private_daemon || options.backend.given ||
                              options.express.given || options.limits.given ||
                              options.observing.need_own_daemon();
  if (options.unprivileged || !is_privileged())
    return run_unprivileged(options, private_daemon);
  const std::string prefix = options.prefix.empty() ? daemon::default_prefix() : options.prefix;
  if (!private_daemon && daemon::is_served(prefix))
    return run_command(options, prefix);
  if (!options.prefix.empty())
    return complain({.code = ENODEV,
                     .where = fmt::format("no daemon serves /dev/{0}: start one with `vfio-shim "
                                          "serve --prefix {0}`, or leave --prefix out",
                                          prefix)});
  const auto own = daemon::PrivateDaemon::start(options_of_daemon(options));
  if (!own)
    return complain(own.error());
  return run_command(options, own->prefix());
}

} // namespace

void add_run(CommandLine &line) {
  auto options = std::make_shared<RunOptions>();
  auto *command = line.app.add_subcommand(
      "run",
      "Run a command that sees the shim's nodes at /dev/vfio; starts a daemon if none serves\n"
      "  vfio-shim run [OPTIONS] -- COMMAND [ARGUMENT...]");
  auto *prefix = command->add_option("--prefix", options->prefix,
                                     "Use the daemon that serves this directory below /dev");
  command
      ->add_flag("--private", options->private_daemon,
                 "Start a daemon for this command even if one serves")
      ->excludes(prefix);
  add_backend_option(*command, options->backend)->excludes(prefix);
  add_express_option(*command, options->express)->excludes(prefix);
  add_limit_options(*command, options->limits, prefix);
  add_observing_options(*command, options->observing, prefix); // Implies --private.
  command->add_flag_callback(
      "--unsupervised", [options] { options->supervised = false; },
      "Leave what the command says of groups to KVM, and resets of a bus, to the kernel, which "
      "refuses both; for commands that trap system calls themselves");
  command->add_flag("--unprivileged", options->unprivileged,
                    "Do as for users other than root: become the command, with no_new_privs, and "
                    "have the daemon that serves supervise it");
  command->add_option("--log-level", options->log_level, "What a daemon of its own logs to stderr")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  command->callback([&line, options] {
    if (line.after_dashes.empty())
      throw CLI::RequiredError("-- COMMAND");
    options->command = line.after_dashes;
    line.chosen = [options] { return run(*options); };
  });
}

} // namespace vfio_shim::cli
