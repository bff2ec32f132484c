// SPDX-License-Identifier: MIT
#include "host.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.hpp"
#include "text.hpp"

namespace chaos {

using namespace std::chrono_literals;

namespace {

class Host {
public:
  Host(const Setting &setting, const Hostile *hostile)
      : setting_(setting),
        hostile_(hostile),
        place_(setting.board.places.at(static_cast<std::size_t>(setting.place))) {}

  bool run() {
    if (hostile_ != nullptr)
      return have_a_hostile();
    for (std::uint32_t life = 1; setting_.board.running(); ++life) {
      const LifePlan plan{setting_, life};
      if (!have_a_life(plan))
        return false;
      // Nobody can use a device that is being taken.
      while (setting_.board.running() && taken().is_open())
        std::this_thread::sleep_for(5ms);
    }
    return true;
  }

private:
  const Window &taken() const {
    return place_.windows.at(static_cast<std::size_t>(Excuse::device_taken));
  }

  /// Starts a client in the place's cgroup; @p live must not return.
  template <typename Live>
  pid_t start(bool in_a_pid_namespace, Live live) {
    const int own_namespace = ::open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (in_a_pid_namespace)
      legacy::Answer::of(::unshare(CLONE_NEWPID)).or_throw("unshare CLONE_NEWPID");
    const pid_t pid = ::fork();
    if (pid == 0) {
      write_file(cgroup_of_place(setting_.place) + "/cgroup.procs", "0");
      live();
      ::_exit(0);
    }
    const int error = errno;
    if (in_a_pid_namespace)
      legacy::Answer::of(::setns(own_namespace, CLONE_NEWPID)).or_throw("setns");
    ::close(own_namespace);
    errno = error;
    legacy::Answer::of(pid).or_throw("fork");
    ++setting_.board.sums.lives;
    ++place_.lives;
    place_.client = pid;
    return pid;
  }

  bool have_a_life(const LifePlan &plan) {
    place_.ready = false;
    place_.devices_open = false;
    place_.to_be_killed = false;
    place_.intent = Intent::exits_with_0;
    describe(plan.describe());
    if (setting_.options.verbose)
      std::printf("  place %d, %s\n", setting_.place, place_.plan.data());
    const pid_t pid = start(plan.confinement->in_a_pid_namespace(), [&] {
      Life{setting_, plan}.live();
    });
    const int status = collect(pid);
    const bool as_meant = is_as_meant(status);
    if (!as_meant)
      place_.complain("it " + describe_end(status));
    return orphans_end() && as_meant;
  }

  /// Not before it has said goodbye can its number mean another process.
  int collect(pid_t pid) {
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 &&
           errno == EINTR) {
    }
    place_.client = 0;
    return wait_for(pid);
  }

  bool is_as_meant(int status) const {
    if (place_.to_be_killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
      return true;
    switch (place_.intent) {
    case Intent::exits_with_0:
      return status == 0;
    case Intent::killed_by_itself:
      return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    case Intent::dumps_core:
      return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    }
    return false;
  }

  /// What a client leaves behind when it is killed: its forked child, which ends soon.
  bool orphans_end() {
    for (;;) {
      int status = 0;
      const pid_t orphan = ::waitpid(-1, &status, 0);
      if (orphan < 0 && errno == EINTR)
        continue;
      if (orphan < 0)
        return true;
      if (status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        continue;
      place_.complain("its orphaned child " + describe_end(status));
      return false;
    }
  }

  bool have_a_hostile() {
    describe("hostile: " + std::string{hostile_->name()});
    std::uint64_t life = 0;
    while (setting_.board.running()) {
      ++life;
      const pid_t pid = start(false, [&] {
        limit(RLIMIT_CORE, 0);
        try {
          hostile_->do_harm(setting_, Random{setting_.options.seed, setting_.round,
                                             static_cast<std::uint64_t>(setting_.place), life});
        } catch (const std::exception &) {
        }
      });
      // While the round is ending, too: until everything is calm, it goes on.
      while (setting_.board.phase != Phase::ending && !ends_within(pid, 20ms)) {
      }
      write_file(cgroup_of_place(setting_.place) + "/cgroup.kill", "1");
      place_.client = 0;
      wait_for(pid);
      while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
      }
      if (place_.has_complaint)
        return false;
      std::this_thread::sleep_for(10ms);
    }
    return true;
  }

  void describe(const std::string &plan) {
    plan.copy(place_.plan.data(), place_.plan.size() - 1);
    place_.plan[std::min(plan.size(), place_.plan.size() - 1)] = '\0';
  }

  const Setting &setting_;
  const Hostile *hostile_;
  Place &place_;
};

} // namespace

std::string cgroup_of_place(int place) {
  return text("/sys/fs/cgroup/chaos-place-%d", place);
}

pid_t start_host(const Setting &setting, const Hostile *hostile) {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const auto pid = static_cast<pid_t>(legacy::Answer::of(::fork()).or_throw("fork"));
  if (pid != 0)
    return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (::getppid() != parent)
    ::_exit(1);
  try {
    const bool well = Host{setting, hostile}.run();
    std::fflush(nullptr);
    ::_exit(well ? 0 : 1);
  } catch (const std::exception &thrown) {
    setting.board.places.at(static_cast<std::size_t>(setting.place))
        .complain(std::string{"its host: "} + thrown.what());
  }
  ::_exit(1);
}

} // namespace chaos
