// SPDX-License-Identifier: MIT
#include "cuse/worker_pool.hpp"

#include "client/borrowed_thread.hpp"

#include <algorithm>
#include <system_error>
#include <thread>

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

namespace vfio_shim::cuse {

namespace {
constexpr std::uint64_t stop_key = 0;
} // namespace

Result<std::shared_ptr<WorkerPool>> WorkerPool::create(Janitor &janitor) {
  Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll)
    return fail_errno("epoll_create1");
  Fd wake_all{::eventfd(0, EFD_CLOEXEC)};
  if (!wake_all)
    return fail_errno("eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = stop_key}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake_all.get(), &event) != 0)
    return fail_errno("epoll_ctl");
  std::shared_ptr<WorkerPool> pool(new WorkerPool(janitor, std::move(epoll), std::move(wake_all)));
  const std::scoped_lock lock(pool->mutex_);
  VFIO_SHIM_TRY(pool->start_worker());
  return pool;
}

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
  [[maybe_unused]] const ssize_t written = ::write(wake_all_.get(), &one, sizeof(one));
}

Result<void> WorkerPool::add(std::shared_ptr<Session> session) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t key = ++last_key_;
  const auto added = sessions_.emplace(key, std::move(session)).first;
  epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = key}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, added->second->fd(), &event) == 0)
    return {};
  auto failed = fail_errno("epoll_ctl");
  sessions_.erase(added);
  return failed;
}

void WorkerPool::remove(const Session &session) {
  const std::scoped_lock lock(mutex_);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, session.fd(), nullptr);
  const auto found = std::ranges::find_if(
      sessions_, [&session](const auto &entry) { return entry.second.get() == &session; });
  if (found != sessions_.end())
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
  const int ready = ::epoll_wait(epoll_.get(), &event, 1, idle_patience_ms);
  if (ready == 0)
    return idle_for_long();
  if (ready < 0)
    return Next::go_on;
  if (event.data.u64 == stop_key)
    return Next::retire;
  const auto session = find(event.data.u64);
  if (!session)
    return Next::go_on; // Removed meanwhile.
  const bool received = session->receive(message);
  rearm(event.data.u64, *session);
  if (!received)
    return Next::go_on;
  about_to_block();
  callers_->begin(session, message);
  session->process(message);
  CallerWatch::end();
  return done_blocking();
}

std::shared_ptr<Session> WorkerPool::find(std::uint64_t key) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(key);
  return found == sessions_.end() ? nullptr : found->second;
}

/// A session's next message may now wake another worker, while this one serves.
void WorkerPool::rearm(std::uint64_t key, const Session &session) {
  epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = key}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, session.fd(), &event); // ENOENT: removed meanwhile.
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
