// SPDX-License-Identifier: MIT
#include "daemon/daemon.hpp"

#include "client/process_handle.hpp"
#include "cuse/kernel_nodes.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/topology.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/agent_process.hpp"
#include "daemon/cdi.hpp"
#include "daemon/hotplug.hpp"
#include "daemon/number_book.hpp"
#include "daemon/prefix.hpp"
#include "keeper/keeper.hpp"
#include "keeper/worker_store.hpp"

namespace vfio_shim::daemon {

namespace {

/// By what name the keeper has the lock of the prefix.
constexpr const char *lock_name = "lock";
/// The same for its device numbers.
constexpr const char *numbers_name = "numbers";

Result<void> check_requirements(const DaemonOptions &options) {
  if (::geteuid() != 0)
    return fail(EPERM, "must be root: it makes device nodes and serves other users' processes");
  if (!Fd{::open("/dev/cuse", O_RDWR | O_CLOEXEC)})
    return fail(errno, fmt::format("cannot open /dev/cuse ({}): load it with `modprobe cuse`, or "
                                   "build the kernel with CONFIG_CUSE",
                                   errno_name(errno)));
  VFIO_SHIM_TRY(check_backend(options.server.backend));
  if (options.wait_for_devices)
    return {};
  const auto groups = topology::scan();
  if (groups.empty())
    return fail(ENODEV,
                "no device has a VFIO cdev (/sys/class/vfio-dev): bind one to vfio-pci on a kernel "
                "with CONFIG_VFIO_DEVICE_CDEV, or give --wait-for-devices");
  const auto &choice = options.server.groups_to_serve;
  if (std::ranges::none_of(groups, [&](const auto &group) { return choice.has(group.id); }))
    return fail(ENODEV, fmt::format("no group is left to serve by {} {}: bind a device of another "
                                    "one to vfio-pci, or give --wait-for-devices",
                                    choice.left_out ? "--except" : "--devices",
                                    fmt::join(choice.devices, ",")));
  return {};
}

Result<Fd> take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2})
    sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  Fd taken{::signalfd(-1, &signals, SFD_CLOEXEC)};
  if (!taken)
    return fail_errno("signalfd");
  return taken;
}

/// Each client's descriptors pass through here, and every node takes two.
void raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Puts the kernel's nodes back when we end, if we have put them aside.
class TakeOver {
public:
  explicit TakeOver(bool wanted) : wanted_(wanted) {}
  TakeOver(const TakeOver &) = delete;
  TakeOver &operator=(const TakeOver &) = delete;
  ~TakeOver() { end(); }

  /// nullptr: there is none.
  const cuse::KernelNodes *nodes() const { return wanted_ ? &nodes_ : nullptr; }

  void end() {
    if (!std::exchange(wanted_, false))
      return;
    if (const auto done = nodes_.put_back(); !done)
      spdlog::error("not all of the kernel's nodes could be put back: {}. Try `vfio-shim release`",
                    done.error().describe());
  }

private:
  cuse::KernelNodes nodes_;
  bool wanted_;
};

enum class Told : std::uint8_t {
  to_end,
  to_make_way ///< For another worker.
};

/// Follows the devices with all that shows them: the nodes, and the file for container engines.
class Follower {
public:
  Follower(cuse::Server &server, const DaemonOptions &options)
      : server_(server), cdi_(options.cdi_directory, options.server.prefix) {}

  /// @return Whether all nodes are there. If not, this is to be called again.
  bool follow() {
    const bool complete = server_.follow_topology();
    auto groups = topology::groups();
    if (!groups) // The server has said so.
      return complete;
    std::erase_if(*groups, [this](const auto &group) { return !server_.serves(group.id); });
    complain_of(cdi_.follow(*groups));
    return complete;
  }

  /// Has container engines hear of no group any more.
  void end() { complain_of(cdi_.remove()); }

private:
  void complain_of(const Result<void> &done) {
    std::string trouble = done ? "" : done.error().describe();
    if (!trouble.empty() && trouble != trouble_)
      spdlog::error("container engines are not told of the groups: {}", trouble);
    trouble_ = std::move(trouble);
  }

  cuse::Server &server_;
  CdiFile cdi_;
  std::string trouble_; ///< The last one that was logged; "" if all is well.
};

/// The agent, if the daemon is to have one. Its own work does not depend on it.
class Agent {
public:
  explicit Agent(const DaemonOptions &options) : options_(options) { start(); }

  /// Readable when the agent has ended; -1: that cannot be told.
  int fd() const { return process_ ? process_->process().get() : -1; }

  /// It has ended: another one takes its place. Its supervisors go on.
  void restart() {
    const bool lived = Clock::now() - since_ > shortest_life;
    spdlog::error("the agent has ended{}",
                  lived ? "; another one takes its place"
                        : " at once: nobody can have programs supervised any more");
    process_.reset();
    if (lived)
      start();
  }

private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds shortest_life{1};

  void start() {
    since_ = Clock::now();
    if (!options_.supervise_others)
      return;
    if (auto agent = AgentProcess::start(options_.server.prefix))
      process_.emplace(std::move(*agent));
    else
      spdlog::error("nobody can have programs supervised: {}", agent.error().describe());
  }

  const DaemonOptions &options_;
  std::optional<AgentProcess> process_;
  Clock::time_point since_;
};

/// @param complete Whether all nodes are there.
Told serve_until_told(cuse::Server &server, Follower &follower, bool complete,
                      HotplugMonitor &hotplug, const Fd &signals, Agent &agent) {
  constexpr int idle_check_ms = 20;
  // A node cannot be made while the one before it, of a device that was there a moment ago, is on
  // its way out: a worker may be at the end of its last call. Or there are no descriptors.
  constexpr int retry_ms = 100;
  constexpr int quick_retries = 50;
  constexpr int slow_retry_ms = 1000;
  std::array<pollfd, 3> events{{{.fd = signals.get(), .events = POLLIN, .revents = 0},
                                {.fd = hotplug.fd(), .events = POLLIN, .revents = 0},
                                {.fd = agent.fd(), .events = POLLIN, .revents = 0}}};
  bool end_when_idle = false;
  int quick = quick_retries;
  while (!end_when_idle || server.in_use()) {
    const int retry = complete ? -1 : quick > 0 ? retry_ms : slow_retry_ms;
    if (::poll(events.data(), events.size(), end_when_idle ? idle_check_ms : retry) < 0)
      continue;
    if ((events[0].revents & POLLIN) != 0) {
      signalfd_siginfo signal{};
      if (::read(signals.get(), &signal, sizeof(signal)) != sizeof(signal))
        continue;
      if (signal.ssi_signo == SIGUSR2)
        return Told::to_make_way;
      if (signal.ssi_signo != SIGUSR1)
        return Told::to_end;
      end_when_idle = true;
    }
    if ((events[2].revents & POLLIN) != 0) {
      agent.restart();
      events[2].fd = agent.fd();
    }
    const bool changed = (events[1].revents & POLLIN) != 0;
    if (changed) {
      hotplug.drain();
      quick = quick_retries;
    }
    if (changed || !complete) {
      complete = follower.follow();
      quick = std::max(quick - 1, 0);
    }
  }
  return Told::to_end;
}

/// Everything stays as it is: another worker goes on with it.
[[noreturn]] void make_way(cuse::Server &server, Observing &observing) {
  constexpr std::chrono::milliseconds patience{500};
  constexpr unsigned int long_enough_s = 5;
  ::alarm(long_enough_s); // Whatever holds us up: the next worker is to come.
  server.pause(std::chrono::steady_clock::now() + patience);
  observing.pause();
  spdlog::default_logger()->flush();
  ::_exit(0);
}

/// What a service manager waits for is the end of this process, and a client must not keep it from
/// that: a call may be waiting for its client for ever.
void end(cuse::Server &server, Observing &observing, observe::SharedLedger &ledger,
         TakeOver &take_over, keeper::WorkerStore &store) {
  constexpr std::chrono::milliseconds patience{2500};
  const auto stuck = server.end(std::chrono::steady_clock::now() + patience);
  if (stuck.empty())
    return;
  spdlog::warn("not everything can be ended: {}. The daemon ends all the same; what these clients "
               "have mapped stays until they end",
               fmt::join(stuck, ", "));
  // Nothing is destroyed that a stuck thread may come back to.
  store.drop_all();
  observing.finish();
  ledger.remove();
  take_over.end();
  spdlog::default_logger()->flush();
  ::_exit(0);
}

/// Has a thread of its own tell the keeper of the worker's end: it waits for nothing else. See
/// keeper::life_line.
void tell_of_life(keeper::WorkerStore &store) {
  std::thread([&store] {
    if (const auto self = client::open_thread(Tid{static_cast<int>(::syscall(SYS_gettid))}))
      store.tell(keeper::life_line, self->get());
    for (;;)
      ::pause();
  }).detach();
}

/// A ledger, new or that of the worker before.
struct Books {
  std::unique_ptr<observe::SharedLedger> ledger;
  std::optional<cuse::Estate> estate;
};

Result<Books> open_books(const std::string &prefix, const observe::LedgerCapacity &capacity,
                         keeper::Inheritance &inheritance) {
  Books books;
  if (!inheritance.files.empty()) {
    cuse::Estate estate{.state = {}, .predecessors = std::move(inheritance.predecessors)};
    auto adopted = observe::SharedLedger::adopt(prefix, estate.state);
    if (adopted) {
      books.ledger = std::move(*adopted);
      books.estate = std::move(estate);
      return books;
    }
    spdlog::error("what the worker before has left cannot be taken over: {}: its clients have lost "
                  "their containers",
                  adopted.error().describe());
    keeper::WorkerStore(inheritance.keeper.duplicate(), {}, {}).drop_all();
    inheritance.files.clear();
  }
  auto made = observe::SharedLedger::create(prefix, capacity);
  if (!made)
    return pass_on(made);
  books.ledger = std::move(*made);
  return books;
}

/// What workers have in common, from the first to the last.
struct Shared {
  const DaemonOptions &options;
  const PrefixLock &lock;
  const ReservedNumbers &numbers;
};

void say_that_it_serves(const Shared &shared, const cuse::Server &server, bool taken_over,
                        std::chrono::nanoseconds pause) {
  const auto &options = shared.options;
  if (taken_over)
    spdlog::info("this worker (pid {}) has taken over; clients had to wait {} ms", ::getpid(),
                 std::chrono::duration_cast<std::chrono::milliseconds>(pause).count());
  else
    spdlog::info("serving {} group(s) in /dev/{} on {}", server.group_count(),
                 options.server.prefix, backend_name(options.server.backend));
  if (const auto unknown = options.server.groups_to_serve.unknown();
      !unknown.empty() && !taken_over)
    spdlog::warn("no IOMMU group has {} yet: look with `lspci -D`, or wait for it to come",
                 fmt::join(unknown, ", "));
  if (options.ready && !taken_over)
    options.ready();
}

/// The life of one worker. @return An error whose `where` is one line for people.
Result<void> work(const Shared &shared, keeper::Inheritance inheritance) {
  const auto &options = shared.options;
  // A core dump would keep the next worker waiting: the kernel lets no thread end before.
  ::prctl(PR_SET_DUMPABLE, 0);
  const auto signals = take_signals();
  if (!signals)
    return pass_on(signals);
  auto hotplug = HotplugMonitor::create();
  if (!hotplug)
    return pass_on(hotplug);
  const observe::LedgerCapacity capacity;
  auto books = open_books(options.server.prefix, capacity, inheritance);
  if (!books)
    return pass_on(books);
  observe::SharedLedger &ledger = *books->ledger;
  ledger.note_keeper(Pid{::getppid()});
  const auto store = std::make_shared<keeper::WorkerStore>(
      std::move(inheritance.keeper), std::move(inheritance.files),
      [&ledger] { return ledger.next_kept(); });
  tell_of_life(*store);
  const bool taken_over = books->estate.has_value();
  // What is to be taken over is destroyed by nobody who fails.
  const auto given_up = [taken_over](const Error &why) {
    if (taken_over)
      cuse::leave_to_next_worker(why);
    return tl::unexpected<Error>(why);
  };
  const bool has_lock = static_cast<bool>(store->adopt_name(lock_name));
  const bool has_numbers = static_cast<bool>(store->adopt_name(numbers_name));
  const auto observing = Observing::start(options.observing, options.server.prefix,
                                          backend_name(options.server.backend), ledger, taken_over);
  if (!observing)
    return given_up(observing.error());
  auto limited = options.server;
  limited.container_limits.total = capacity.containers;
  limited.numbers = shared.numbers.block();
  TakeOver take_over(options.take_over);
  limited.kernel_nodes = take_over.nodes();
  auto server = cuse::Server::create(limited, ledger, (*observing)->observer(), store,
                                     taken_over ? &*books->estate : nullptr);
  books->estate.reset();
  if (taken_over)
    (*observing)->serve_metrics(options.observing, options.server.prefix);
  if (!server)
    return fail(server.error().code,
                server.error().code == EEXIST
                    ? fmt::format("{} exists already and is not ours: give another --prefix",
                                  server.error().where)
                    : server.error().describe());
  Follower follower(**server, options);
  const bool complete = follower.follow();
  const std::chrono::nanoseconds pause = std::chrono::steady_clock::now() - inheritance.since;
  if (taken_over)
    ledger.note_pause(pause);
  // Not before: what begins with a file that was kept, begins as somebody's successor.
  if (const auto kept = has_lock ? Result<void>{} : store->keep_as(lock_name, shared.lock.file());
      !kept)
    return given_up(kept.error());
  if (const auto kept =
          has_numbers ? Result<void>{} : store->keep_as(numbers_name, shared.numbers.lock_file());
      !kept)
    return given_up(kept.error());
  std::optional<Agent> agent(options);
  store->tell(keeper::ready_line);
  say_that_it_serves(shared, **server, taken_over, pause);
  if (serve_until_told(**server, follower, complete, *hotplug, *signals, *agent) ==
      Told::to_make_way)
    make_way(**server, **observing);
  store->tell(keeper::stopping_line);
  agent.reset();
  follower.end();
  spdlog::info("stopping: unmapping everything, removing /dev/{}", options.server.prefix);
  end(**server, **observing, ledger, take_over, *store);
  server->reset(); // Before the kernel's nodes come back.
  store->drop_name(numbers_name);
  store->drop_name(lock_name);
  return {};
}

int live_as_worker(const Shared &shared, keeper::Inheritance inheritance) {
  const auto done = work(shared, std::move(inheritance));
  if (!done)
    spdlog::error("{}", done.error().where);
  spdlog::default_logger()->flush();
  return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

/// The lock that keeps others off the prefix: the last program's, or a new one.
Result<PrefixLock> lock_prefix(const std::string &prefix, const keeper::KeptFiles &files) {
  if (const auto kept = files.find(lock_name); kept != files.end())
    if (Fd copy = kept->second.duplicate())
      return PrefixLock::inherit(std::move(copy));
  constexpr std::chrono::seconds patience{2}; // For `release`, or a daemon that has just died.
  auto lock = PrefixLock::acquire(prefix, has_daemon(prefix) ? std::chrono::seconds{} : patience);
  if (!lock)
    return fail(lock.error().code,
                lock.error().code == EBUSY
                    ? fmt::format("another daemon serves /dev/{0} already: use it, or give another "
                                  "--prefix (`vfio-shim status --prefix {0}` shows it)",
                                  prefix)
                    : lock.error().describe());
  return lock;
}

Result<ReservedNumbers> reserve_numbers(const DaemonOptions &options,
                                        const keeper::KeptFiles &files) {
  if (const auto kept = files.find(numbers_name); kept != files.end())
    if (Fd copy = kept->second.duplicate())
      return ReservedNumbers::inherit(std::move(copy), options.server.prefix);
  return ReservedNumbers::reserve(options.server.prefix, options.remember_numbers);
}

} // namespace

Result<int> run_daemon(const DaemonOptions &options) {
  auto files = keeper::files_of_last_program();
  if (files.empty()) {
    VFIO_SHIM_TRY(check_requirements(options));
    if (options.take_over)
      VFIO_SHIM_TRY(cuse::KernelNodes().check());
  }
  const auto lock = lock_prefix(options.server.prefix, files);
  if (!lock)
    return pass_on(lock);
  // Early, and so with a low descriptor: if this process is killed, the kernel closes that one
  // after the nodes, whose numbers are in use until then.
  const auto numbers = reserve_numbers(options, files);
  if (!numbers)
    return pass_on(numbers);
  raise_descriptor_limit();
  const Shared shared{.options = options, .lock = *lock, .numbers = *numbers};
  return keeper::Keeper(std::move(files),
                        [&shared](keeper::Inheritance inheritance) {
                          return live_as_worker(shared, std::move(inheritance));
                        },
                        {.command = options.command, .may_follow = options.may_follow})
      .run();
}

} // namespace vfio_shim::daemon
