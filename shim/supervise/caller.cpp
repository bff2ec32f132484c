// SPDX-License-Identifier: MIT
#include "supervise/caller.hpp"

#include "client/calling_thread.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/process_handle.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/process_memory.hpp"

#include <cstdlib>
#include <fstream>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::supervise {

namespace {

/// What trapped calls fail with when nobody listens.
constexpr int supervisor_has_died = ENOSYS;

} // namespace

Result<Caller> Caller::of(const Listener &listener, const TrappedCall &call,
                          client::ClientAreas &areas) {
  const auto pid = client::thread_group(call.thread);
  if (!pid)
    return pass_on(pid);
  auto thread = client::open_thread(call.thread);
  if (!thread)
    return pass_on(thread);
  auto process = client::open_process(*pid);
  if (!process)
    return pass_on(process);
  Caller caller(listener, call, areas, *pid, std::move(*thread), std::move(*process));
  VFIO_SHIM_TRY(caller.check_it_waits());
  return caller;
}

std::string Caller::describe() const {
  return client::describe_process(pid_);
}

Result<void> Caller::read(ClientAddr from, std::span<std::byte> to) const {
  const auto done = read_memory(call_.thread, from, to);
  VFIO_SHIM_TRY(check_it_waits());
  return done;
}

Result<Fd> Caller::copy_of(ClientFd number) const {
  auto copy = client::copy_descriptor(thread_, number);
  VFIO_SHIM_TRY(check_it_waits());
  return copy;
}

bool Caller::closes_on_exec(ClientFd number) const {
  constexpr std::string_view key = "flags:";
  std::ifstream lines(fmt::format("/proc/{}/fdinfo/{}", call_.thread.value, number.value));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key))
      return (std::strtoul(line.c_str() + key.size(), nullptr, 8) & O_CLOEXEC) != 0;
  return false;
}

Result<std::unique_ptr<client::BorrowedThread>>
Caller::borrow(const std::function<void()> &before) const {
  static client::CallNotes nobody; // The kernel has a call of a dead supervisor fail.
  return client::BorrowedThread::borrow(call_.thread, areas_, nobody, [&] {
    before();
    // If the answer arrives, the call still waited: then the thread that was seized is the caller.
    const bool answered = listener_.answer(call_, -supervisor_has_died);
    if (answered)
      listener_.note_kept_call();
    else if (!client::is_being_killed(call_.thread) && listener_.note_lost_call())
      spdlog::warn("{}: its seccomp filter lacks SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: KVM will "
                   "not learn of groups, and buses cannot be reset",
                   describe());
    return answered;
  });
}

Result<void> Caller::check_it_waits() const {
  if (!listener_.waits(call_))
    return fail(ESRCH, "the caller was killed");
  return {};
}

} // namespace vfio_shim::supervise
