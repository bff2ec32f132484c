// SPDX-License-Identifier: MIT
#include "client/periodic_interrupt.hpp"

#include <atomic>
#include <csignal>
#include <ctime>

#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

constexpr long period_ns = 50'000'000;

// What a signal handler can look at.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local std::atomic<sigjmp_buf *> the_way_out{nullptr};

void interrupt(int /*signal*/) {
  if (sigjmp_buf *way_out = the_way_out.exchange(nullptr, std::memory_order_relaxed))
    siglongjmp(*way_out, 1);
}

/// Without SA_RESTART: the interrupted call must return. With SA_NODEFER: who jumps out of the
/// handler does not come back to unblock the signal.
bool install_handler() {
  struct sigaction action {};
  action.sa_handler = interrupt;
  action.sa_flags = SA_NODEFER;
  return ::sigaction(SIGRTMIN, &action, nullptr) == 0;
}

/// A thread's timer: made once, because most borrows need it.
class ThreadTimer {
public:
  ThreadTimer() = default;
  ThreadTimer(const ThreadTimer &) = delete;
  ThreadTimer &operator=(const ThreadTimer &) = delete;
  ~ThreadTimer() {
    if (made_)
      ::timer_delete(timer_);
  }

  /// @param period 0: no more.
  void set(long period) {
    const itimerspec times{.it_interval = {.tv_sec = 0, .tv_nsec = period},
                           .it_value = {.tv_sec = 0, .tv_nsec = period}};
    made_ = made_ || make();
    if (made_)
      ::timer_settime(timer_, 0, &times, nullptr);
  }

private:
  bool make() {
    static const bool installed = install_handler();
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMIN;
    event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
    return installed && ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
  }

  timer_t timer_{};
  bool made_ = false; ///< There may have been no room for it.
};

ThreadTimer &timer_of_this_thread() {
  thread_local ThreadTimer timer;
  return timer;
}

} // namespace

PeriodicInterrupt::PeriodicInterrupt() {
  timer_of_this_thread().set(period_ns);
}

PeriodicInterrupt::~PeriodicInterrupt() {
  timer_of_this_thread().set(0);
}

void PeriodicInterrupt::lead_to(sigjmp_buf *way_out) {
  the_way_out.store(way_out, std::memory_order_relaxed);
}

} // namespace vfio_shim::client
