// SPDX-License-Identifier: MIT
#include "cuse/worker_pool.hpp"

#include "client/borrowed_thread.hpp"

#include <algorithm>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

#include <linux/fuse.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

namespace vfio_shim::cuse {

namespace {

constexpr std::uint64_t stop_key = 0;
constexpr std::uint64_t overdue_key = ~std::uint64_t{0};
/// After so long others are let in. Some calls last longer than what counts as short.
constexpr std::chrono::milliseconds overdue_after{4};

/// What the calling worker can do for others.
thread_local std::function<void()> let_in_here; // NOLINT(*-avoid-non-const-global-variables)

bool has_other_cpus() {
  cpu_set_t cpus{};
  return ::sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || CPU_COUNT(&cpus) > 1;
}

Result<void> watch(const Fd &epoll, int file, std::uint32_t events, std::uint64_t key) {
  epoll_event event{.events = events, .data = {.u64 = key}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, file, &event) != 0)
    return fail_errno("epoll_ctl");
  return {};
}

/// Has @p timer go off every @p period; 0: no more.
void set_timer(const Fd &timer, std::chrono::milliseconds period) {
  const timespec each{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(period).count()};
  const itimerspec times{.it_interval = each, .it_value = each};
  ::timerfd_settime(timer.get(), 0, &times, nullptr);
}

} // namespace

Result<std::shared_ptr<WorkerPool>> WorkerPool::create(Janitor &janitor) {
  Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll)
    return fail_errno("epoll_create1");
  Fd wake_all{::eventfd(0, EFD_CLOEXEC)};
  if (!wake_all)
    return fail_errno("eventfd");
  VFIO_SHIM_TRY(watch(epoll, wake_all.get(), EPOLLIN, stop_key));
  Fd overdue{::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
  if (!overdue)
    return fail_errno("timerfd_create");
  VFIO_SHIM_TRY(watch(epoll, overdue.get(), EPOLLIN | EPOLLET, overdue_key));
  std::shared_ptr<WorkerPool> pool(new WorkerPool(
      janitor,
      {.epoll = std::move(epoll), .wake_all = std::move(wake_all), .overdue = std::move(overdue)}));
  const std::scoped_lock lock(pool->mutex_);
  VFIO_SHIM_TRY(pool->start_worker());
  return pool;
}

WorkerPool::WorkerPool(Janitor &janitor, Waiting waiting)
    : janitor_(janitor),
      callers_(std::make_shared<CallerWatch>(janitor)),
      waiting_(std::move(waiting)),
      may_keep_(has_other_cpus()) {}

WorkerPool::~WorkerPool() {
  std::unique_lock lock(mutex_);
  begin_stop();
  all_gone_.wait(lock, [this] { return workers_ == 0; });
}

std::vector<std::string> WorkerPool::stop(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  begin_stop();
  if (all_gone_.wait_until(lock, deadline, [this] { return workers_ == 0; }))
    return {};
  lock.unlock();
  auto stuck = callers_->describe();
  if (stuck.empty())
    stuck.emplace_back("a worker");
  return stuck;
}

/// With the lock held.
void WorkerPool::begin_stop() {
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(waiting_.wake_all.get(), &one, sizeof(one));
}

Result<void> WorkerPool::add(std::shared_ptr<Session> session) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t key = ++last_key_;
  const auto added =
      sessions_
          .emplace(key, std::make_shared<Served>(Served{.key = key, .session = std::move(session)}))
          .first;
  auto watched = watch(waiting_.epoll, added->second->session->fd(), EPOLLIN | EPOLLONESHOT, key);
  if (!watched)
    sessions_.erase(added);
  return watched;
}

void WorkerPool::remove(const Session &session) {
  const std::scoped_lock lock(mutex_);
  ::epoll_ctl(waiting_.epoll.get(), EPOLL_CTL_DEL, session.fd(), nullptr);
  const auto found = std::ranges::find_if(
      sessions_, [&session](const auto &entry) { return entry.second->session.get() == &session; });
  if (found == sessions_.end())
    return;
  found->second->keeper = {}; // Who has it looks for no further message.
  found->second->under_way = false;
  sessions_.erase(found);
}

/// With the lock held.
Result<void> WorkerPool::start_worker() {
  try {
    std::thread(&WorkerPool::work, this).detach();
  } catch (const std::system_error &error) {
    return fail(error.code().value(), "starting a worker thread");
  }
  ++workers_;
  ++idle_;
  return {};
}

void WorkerPool::carry_out(std::shared_ptr<Session> session, Message message) {
  struct Task {
    std::shared_ptr<Session> session;
    Message message;
  };
  const auto task = std::make_shared<Task>(Task{std::move(session), std::move(message)});
  const auto start = [self = weak_from_this(), task] {
    const auto pool = self.lock();
    if (!pool)
      return true;
    try {
      const std::scoped_lock lock(pool->mutex_);
      std::thread([pool = pool.get(), task] {
        pool->carry_out_first(std::move(task->session), std::move(task->message));
      }).detach();
      ++pool->workers_;
      ++pool->idle_;
      return true;
    } catch (const std::system_error &) {
      return false;
    }
  };
  if (!start())
    janitor_.repeat([start] { return !start(); });
}

void WorkerPool::carry_out_first(std::shared_ptr<Session> session, Message message) {
  about_to_block();
  callers_->begin(session, message);
  session->process(message);
  CallerWatch::end();
  session.reset(); // This thread lives on; the session need not.
  message = Message();
  if (done_blocking() == Next::go_on)
    return work();
  retire();
}

/// With the lock held. Every message that is taken comes through here, so a thread that cannot be
/// had is asked for again by somebody else.
void WorkerPool::have_one_idle() {
  if (!is_short_of_workers() || awaiting_threads_)
    return;
  const auto started = start_worker();
  if (started)
    return;
  spdlog::error("{}: calls wait until there is one", started.error().describe());
  awaiting_threads_ = true;
  janitor_.repeat([pool = weak_from_this()] {
    const auto self = pool.lock();
    if (!self)
      return false;
    const std::scoped_lock lock(self->mutex_);
    self->awaiting_threads_ = self->is_short_of_workers() && !self->start_worker();
    return self->awaiting_threads_;
  });
}

void WorkerPool::work() {
  Message message;
  while (serve_next(message) == Next::go_on) {
  }
  retire();
}

void WorkerPool::retire() {
  const std::scoped_lock lock(mutex_);
  --idle_;
  have_one_idle();
  if (--workers_ == 0)
    all_gone_.notify_all();
}

WorkerPool::Next WorkerPool::serve_next(Message &message) {
  epoll_event event{};
  const int ready = ::epoll_wait(waiting_.epoll.get(), &event, 1, idle_patience_ms);
  if (ready == 0)
    return idle_for_long();
  if (ready < 0)
    return Next::go_on;
  if (event.data.u64 == stop_key)
    return Next::retire;
  if (event.data.u64 == overdue_key) {
    look_for_overdue();
    return Next::go_on;
  }
  const auto served = take(event.data.u64);
  if (!served)
    return Next::go_on; // Removed meanwhile.
  if (served->session->receive(message))
    return serve_burst(*served, message);
  let_in_if_kept(*served);
  return Next::go_on;
}

/// Serves a message, and those that come right after it.
WorkerPool::Next WorkerPool::serve_burst(Served &served, Message &message) {
  for (;;) {
    const Next next = serve_one(served, message);
    Pace::Duration patience{};
    {
      const std::scoped_lock lock(mutex_);
      served.pace.answered(Pace::Clock::now());
      if (served.keeper != std::this_thread::get_id())
        return next;
      served.under_way = false;
      patience = next == Next::retire || stopping_ ? Pace::Duration{} : served.pace.patience();
    }
    bool received = false;
    for (const auto until = Pace::Clock::now() + patience; !received && Pace::Clock::now() < until;)
      received = served.session->receive(message);
    if (received)
      continue;
    const std::scoped_lock lock(mutex_);
    served.pace.missed();
    let_in(served);
    return next;
  }
}

/// Serves a message that the calling worker, its session's keeper, has taken.
WorkerPool::Next WorkerPool::serve_one(Served &served, const Message &message) {
  {
    const std::scoped_lock lock(mutex_);
    const bool burst = served.pace.taken(message.caller(), Pace::Clock::now());
    if (burst && may_keep_ && message.opcode() == FUSE_IOCTL)
      keep(served);
    else
      let_in(served);
  }
  let_in_here = [this, &served] { let_in_if_kept(served); };
  about_to_block();
  callers_->begin(served.session, message);
  served.session->process(message);
  CallerWatch::end();
  let_in_here = nullptr;
  return done_blocking();
}

/// A session that has a message. The calling worker is its keeper.
std::shared_ptr<WorkerPool::Served> WorkerPool::take(std::uint64_t key) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(key);
  if (found == sessions_.end())
    return nullptr;
  found->second->keeper = std::this_thread::get_id();
  return found->second;
}

/// With the lock held: a message is being carried out, and nobody else is to take the next one.
void WorkerPool::keep(Served &served) {
  served.under_way = true;
  served.since = Pace::Clock::now();
  if (!std::exchange(timing_, true))
    set_timer(waiting_.overdue, overdue_after);
}

/// With the lock held: the session's next message may wake another worker from now on.
void WorkerPool::let_in(Served &served) {
  served.keeper = {};
  served.under_way = false;
  epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = served.key}};
  // ENOENT: removed meanwhile.
  ::epoll_ctl(waiting_.epoll.get(), EPOLL_CTL_MOD, served.session->fd(), &event);
}

void WorkerPool::let_in_if_kept(Served &served) {
  const std::scoped_lock lock(mutex_);
  if (served.keeper == std::this_thread::get_id())
    let_in(served);
}

void WorkerPool::let_others_in() {
  if (let_in_here)
    let_in_here();
}

/// The timer's rounds, which end when nothing is kept any more.
void WorkerPool::look_for_overdue() {
  std::uint64_t rounds = 0; // The next one comes when this one has been read.
  [[maybe_unused]] const ssize_t got = ::read(waiting_.overdue.get(), &rounds, sizeof(rounds));
  const std::scoped_lock lock(mutex_);
  const auto now = Pace::Clock::now();
  timing_ = false;
  for (const auto &[key, served] : sessions_) {
    if (served->under_way && now - served->since >= overdue_after) {
      served->pace.others_waited(now);
      let_in(*served);
    }
    timing_ = timing_ || served->keeper != std::thread::id{};
  }
  if (!timing_)
    set_timer(waiting_.overdue, {});
}

void WorkerPool::about_to_block() {
  const std::scoped_lock lock(mutex_);
  --idle_;
  have_one_idle();
}

WorkerPool::Next WorkerPool::done_blocking() {
  const std::scoped_lock lock(mutex_);
  ++idle_;
  return client::BorrowedThread::tracer_must_retire() ? Next::retire : Next::go_on;
}

WorkerPool::Next WorkerPool::idle_for_long() {
  const std::scoped_lock lock(mutex_);
  return idle_ > most_idle ? Next::retire : Next::go_on;
}

} // namespace vfio_shim::cuse
