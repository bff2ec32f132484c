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

WorkerPool::WorkerPool()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_all_(::eventfd(0, EFD_CLOEXEC)) {
  epoll_event event{.events = EPOLLIN, .data = {.u64 = stop_key}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_all_.get(), &event);
  const std::scoped_lock lock(mutex_);
  start_worker();
}

WorkerPool::~WorkerPool() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_all_.get(), &one, sizeof(one));
  all_gone_.wait(lock, [this] { return workers_ == 0; });
}

void WorkerPool::add(std::shared_ptr<Session> session) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t key = ++last_key_;
  epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = key}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session->fd(), &event);
  sessions_.emplace(key, std::move(session));
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
void WorkerPool::start_worker() {
  try {
    std::thread(&WorkerPool::work, this).detach();
    ++workers_;
    ++idle_;
  } catch (const std::system_error &error) {
    spdlog::error("cannot start another worker thread: {}", error.what());
  }
}

void WorkerPool::work() {
  Message message;
  while (serve_next(message) == Next::go_on) {
  }
  const std::scoped_lock lock(mutex_);
  --idle_;
  if (idle_ < fewest_idle && !stopping_)
    start_worker();
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
  session->process(message);
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
  if (--idle_ < fewest_idle && !stopping_)
    start_worker();
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
