#include "cli/daemon.hpp"

#include "cli/hotplug.hpp"
#include "cli/prefix.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/topology.hpp"

#include <array>
#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace vfio_shim::cli {

namespace {

Result<void> check_requirements(const DaemonOptions &options) {
  if (::geteuid() != 0)
    return fail(EPERM, "must be root: it makes device nodes and serves other users' processes");
  if (!Fd{::open("/dev/cuse", O_RDWR | O_CLOEXEC)})
    return fail(errno, fmt::format("cannot open /dev/cuse ({}): load it with `modprobe cuse`, or "
                                   "build the kernel with CONFIG_CUSE",
                                   errno_name(errno)));
  VFIO_SHIM_TRY(check_backend(options.server.backend));
  if (!options.wait_for_devices && topology::scan().empty())
    return fail(ENODEV,
                "no device has a VFIO cdev (/sys/class/vfio-dev): bind one to vfio-pci on a kernel "
                "with CONFIG_VFIO_DEVICE_CDEV, or give --wait-for-devices");
  return {};
}

Fd take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1})
    sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return Fd{::signalfd(-1, &signals, SFD_CLOEXEC)};
}

/// Each client's descriptors pass through here, and every node takes two.
void raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// @param complete Whether all nodes are there.
void serve_until_told(cuse::Server &server, bool complete, HotplugMonitor &hotplug,
                      const Fd &signals) {
  constexpr int idle_check_ms = 20;
  // A node cannot be made while the one before it, of a device that was there a moment ago, is on
  // its way out: a worker may be at the end of its last call.
  constexpr int retry_ms = 100;
  constexpr int most_retries = 50;
  std::array<pollfd, 2> events{{{.fd = signals.get(), .events = POLLIN, .revents = 0},
                                {.fd = hotplug.fd(), .events = POLLIN, .revents = 0}}};
  bool end_when_idle = false;
  int retries = complete ? 0 : most_retries;
  while (!end_when_idle || server.in_use()) {
    const int retry = retries > 0 ? retry_ms : -1;
    if (::poll(events.data(), events.size(), end_when_idle ? idle_check_ms : retry) < 0)
      continue;
    if ((events[0].revents & POLLIN) != 0) {
      signalfd_siginfo signal{};
      if (::read(signals.get(), &signal, sizeof(signal)) != sizeof(signal))
        continue;
      if (signal.ssi_signo != SIGUSR1)
        return;
      end_when_idle = true;
    }
    const bool changed = (events[1].revents & POLLIN) != 0;
    if (changed) {
      hotplug.drain();
      retries = most_retries;
    }
    if (retries > 0)
      retries = server.follow_topology() ? 0 : retries - 1;
  }
}

} // namespace

Result<void> run_daemon(const DaemonOptions &options) {
  VFIO_SHIM_TRY(check_requirements(options));
  const auto lock = PrefixLock::acquire(options.server.prefix);
  if (!lock)
    return fail(lock.error().code,
                lock.error().code == EBUSY
                    ? fmt::format("another daemon serves /dev/{0} already: use it, or give another "
                                  "--prefix (`vfio-shim status --prefix {0}` shows it)",
                                  options.server.prefix)
                    : lock.error().describe());
  const Fd signals = take_signals();
  raise_descriptor_limit();
  auto hotplug = HotplugMonitor::create();
  if (!hotplug)
    return pass_on(hotplug);
  auto ledger = observe::SharedLedger::create(options.server.prefix);
  if (!ledger)
    return pass_on(ledger);
  const auto observing = Observing::start(options.observing, options.server.prefix,
                                          backend_name(options.server.backend), **ledger);
  if (!observing)
    return pass_on(observing);
  auto server = cuse::Server::create(options.server, **ledger, (*observing)->observer());
  if (!server)
    return fail(server.error().code,
                server.error().code == EEXIST
                    ? fmt::format("{} exists already and is not ours: give another --prefix",
                                  server.error().where)
                    : server.error().describe());
  const bool complete = (*server)->follow_topology();
  spdlog::info("serving {} group(s) in /dev/{} on {}", (*server)->group_count(),
               options.server.prefix, backend_name(options.server.backend));
  if (options.ready)
    options.ready();
  serve_until_told(**server, complete, *hotplug, signals);
  spdlog::info("stopping: unmapping everything, removing /dev/{}", options.server.prefix);
  return {};
}

} // namespace vfio_shim::cli
