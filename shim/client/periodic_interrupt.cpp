#include "client/periodic_interrupt.hpp"

#include <csignal>

#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

constexpr long period_ns = 50'000'000;

void do_nothing(int /*signal*/) {}

/// Without SA_RESTART: the interrupted call must return.
bool install_handler() {
  struct sigaction action {};
  action.sa_handler = do_nothing;
  return ::sigaction(SIGRTMIN, &action, nullptr) == 0;
}

} // namespace

PeriodicInterrupt::PeriodicInterrupt() {
  static const bool installed = install_handler();
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN;
  event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
  running_ = installed && ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
  constexpr itimerspec period{.it_interval = {.tv_sec = 0, .tv_nsec = period_ns},
                              .it_value = {.tv_sec = 0, .tv_nsec = period_ns}};
  if (running_)
    ::timer_settime(timer_, 0, &period, nullptr);
}

PeriodicInterrupt::~PeriodicInterrupt() {
  if (running_)
    ::timer_delete(timer_);
}

} // namespace vfio_shim::client
