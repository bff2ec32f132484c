// SPDX-License-Identifier: MIT
#include "child.h"

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <system_error>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace legacy {
namespace {

[[noreturn]] void run_and_exit(const std::function<void()> &body, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const bool orphaned = ::getppid() != parent && ::getppid() != 0;
  if (orphaned)
    ::_exit(3);
  try {
    body();
  } catch (const std::exception &thrown) {
    ADD_FAILURE() << "in the child: " << thrown.what();
  }
  std::fflush(nullptr);
  ::_exit(testing::Test::HasFailure() ? 1 : 0);
}

} // namespace

Child::Child(const std::function<void()> &body) {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == -1)
    throw std::system_error{errno, std::generic_category(), "fork"};
  if (pid_ == 0)
    run_and_exit(body, parent);
}

Child::~Child() {
  if (!status_) {
    kill_now();
    reap();
  }
}

void Child::kill_now() {
  ::kill(pid_, SIGKILL);
}

testing::AssertionResult Child::wait(std::chrono::seconds patience) {
  const bool ended = ends_within(patience);
  if (!ended)
    kill_now();
  if (!reap())
    return testing::AssertionFailure() << "the child was killed and does not end";
  if (!ended)
    return testing::AssertionFailure() << "the child did not end in " << patience.count() << " s";
  if (WIFSIGNALED(*status_))
    return testing::AssertionFailure() << "the child died of signal " << WTERMSIG(*status_);
  if (WEXITSTATUS(*status_) != 0)
    return testing::AssertionFailure()
           << "something failed in the child: it exited with " << WEXITSTATUS(*status_);
  return testing::AssertionSuccess();
}

bool Child::ends_within(std::chrono::milliseconds patience) const {
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  pollfd poll{pidfd, POLLIN, 0};
  const bool ended = ::poll(&poll, 1, static_cast<int>(patience.count())) == 1;
  ::close(pidfd);
  return ended;
}

bool Child::reap() {
  constexpr std::chrono::seconds patience{10};
  if (!ends_within(patience))
    return false;
  int status = 0;
  if (::waitpid(pid_, &status, 0) == pid_)
    status_ = status;
  return status_.has_value();
}

void run_in_child(const std::function<void()> &body, const char *file, int line) {
  const testing::AssertionResult result = Child{body}.wait();
  if (!result)
    ADD_FAILURE_AT(file, line) << result.message();
}

Signpost::Signpost() : eventfd_{::eventfd(0, EFD_CLOEXEC)} {
  if (eventfd_ == -1)
    throw std::system_error{errno, std::generic_category(), "eventfd"};
}

Signpost::~Signpost() {
  ::close(eventfd_);
}

void Signpost::announce() const {
  const std::uint64_t one = 1;
  if (::write(eventfd_, &one, sizeof(one)) != sizeof(one))
    throw std::system_error{errno, std::generic_category(), "announce"};
}

bool Signpost::await(std::chrono::seconds patience) const {
  pollfd poll{eventfd_, POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())) != 1)
    return false;
  std::uint64_t count = 0;
  return ::read(eventfd_, &count, sizeof(count)) == sizeof(count);
}

} // namespace legacy
