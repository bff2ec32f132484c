// SPDX-License-Identifier: MIT
#include "supervise/supervisor.hpp"

#include "client/calling_thread.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/express.hpp"
#include "client/process_handle.hpp"

#include "vfio_shim/process_memory.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <linux/kvm.h>
#include <linux/vfio.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervise/caller.hpp"
#include "supervise/hot_reset.hpp"
#include "supervise/kvm_registration.hpp"
#include "supervise/trap.hpp"
#include "supervise/vfio_files.hpp"

namespace vfio_shim::supervise {

namespace {

/// Writes @p info to the caller, in whose borrowed thread alone that is safe.
Result<void> answer_with(const HotResetInfo &info, const Caller &caller, ClientAddr argument) {
  const auto thread = caller.borrow();
  if (!thread)
    return pass_on(thread);
  const auto written = write_memory((*thread)->id(), argument, info.bytes);
  (*thread)->give_back(written ? -info.error : -written.error().code);
  return {};
}

/// @return What to answer. Nothing if the call is not about a device of ours.
std::optional<Result<HotResetInfo>> carry_out(const TrappedCall &call, const Caller &caller) {
  // No copy may outlive this: once the caller has its answer, what it closes must be closed.
  const auto device = caller.copy_of(call.file);
  if (!device || !is_device(*device))
    return std::nullopt;
  const ClientAddr argument{call.argument};
  if (call.command == VFIO_DEVICE_GET_PCI_HOT_RESET_INFO)
    return get_hot_reset_info(caller, *device, argument);
  const auto done = hot_reset(caller, *device, argument);
  return done ? Result<HotResetInfo>(HotResetInfo{}) : pass_on(done);
}

/// @return Whether the call was answered. If not, it is not about a device of ours.
bool serve_reset(const Listener &listener, const TrappedCall &call, client::ClientAreas &areas) {
  const auto caller = Caller::of(listener, call, areas);
  const auto info = caller ? carry_out(call, *caller) : std::nullopt;
  if (!info)
    return false;
  Result<void> served;
  if (!*info)
    served = pass_on(*info);
  else if (!(*info)->bytes.empty())
    served = answer_with(**info, *caller, ClientAddr{call.argument});
  if (!served)
    spdlog::debug("{}: hot reset of descriptor {}: {}", caller->describe(), call.file.value,
                  served.error().describe());
  listener.answer(call, served ? 0 : -served.error().code); // If nobody has.
  return true;
}

/// An iommufd cannot tell what is dirty. If it lies in a container's place, the container's file
/// comes back, and the call goes on with that.
void put_container_back(const Listener &listener, const TrappedCall &call,
                        client::ClientAreas &areas, const std::filesystem::path &node) {
  const auto caller = Caller::of(listener, call, areas);
  const auto iommufd = caller ? caller->copy_of(call.file) : Result<Fd>(pass_on(caller));
  if (!iommufd || !client::is_iommufd(*iommufd))
    return;
  const auto file = client::file_of_container(node, *iommufd);
  const auto put =
      file ? listener.replace(call, *file, caller->closes_on_exec(call.file)) : pass_on(file);
  if (!put && put.error().code != ENOENT)
    spdlog::warn("{}: dirty pages of descriptor {}: {}", caller->describe(), call.file.value,
                 put.error().describe());
}

bool is_reset(const TrappedCall &call) {
  return call.command == VFIO_DEVICE_GET_PCI_HOT_RESET_INFO ||
         call.command == VFIO_DEVICE_PCI_HOT_RESET;
}

/// What our own filter traps. Somebody else's may trap anything, such as a container's ioctls of
/// the same numbers.
bool is_ours(const TrappedCall &call) {
  return call.is_ioctl &&
         (call.command == KVM_SET_DEVICE_ATTR || call.command == VFIO_IOMMU_DIRTY_PAGES ||
          (is_reset(call) && call.file.value >= client::least_supervised.value));
}

void serve(const Listener &listener, KvmRegistrations &kvm, client::ClientAreas &areas,
           const std::filesystem::path &node, const TrappedCall &call) {
  if (listener.loses_calls())
    return listener.let_through(call); // Or it would come again and again.
  if (call.command == VFIO_IOMMU_DIRTY_PAGES) {
    put_container_back(listener, call, areas, node);
    return listener.let_through(call);
  }
  const bool answered =
      is_reset(call) ? serve_reset(listener, call, areas) : kvm.serve(listener, call, areas);
  if (!answered)
    listener.let_through(call);
}

/// Whoever could call has ended. Usually at once, and so has what was lent to them.
[[noreturn]] void end_when_all_is_returned(KvmRegistrations &kvm) {
  constexpr std::chrono::milliseconds glance{10};
  while (kvm.prune())
    std::this_thread::sleep_for(glance);
  ::_exit(0); // A thread may still be busy with somebody who has died.
}

/// Serves each call in a thread of its own, which ends with it: a call may take its time in its
/// client, and a tracer must go if its tracee dies.
[[noreturn]] void serve_until_nobody_is_left(const Listener &listener,
                                             const std::filesystem::path &node) {
  constexpr std::chrono::milliseconds glance{500};
  constexpr std::chrono::milliseconds forever{-1};
  KvmRegistrations kvm;
  client::ClientAreas areas;
  constexpr int most_at_once = 8; // Programs name their groups one after the other.
  constexpr std::chrono::milliseconds pause{10};
  std::atomic<int> being_served = 0; // Each may leave something to look after.
  for (;;) {
    if (being_served >= most_at_once) { // They may wait for their clients: so must the others.
      std::this_thread::sleep_for(pause);
      continue;
    }
    const bool look_after = being_served != 0;
    const auto news = listener.wait(kvm.prune() || look_after ? glance : forever);
    if (news == Listener::News::end)
      end_when_all_is_returned(kvm);
    if (news != Listener::News::call)
      continue;
    const auto call = listener.take();
    if (call && !is_ours(*call)) {
      listener.let_through(*call);
    } else if (call) {
      ++being_served;
      try {
        std::thread([&listener, &kvm, &areas, &node, &being_served, call = *call] {
          serve(listener, kvm, areas, node, call);
          --being_served;
        }).detach();
      } catch (const std::system_error &) { // No thread is to be had.
        --being_served;
        listener.let_through(*call);
      }
    }
  }
}

/// What a process that wants to be supervised says of itself.
struct Introduction {
  pid_t process;
  int listener;
};

/// The life of the supervisor's process.
[[noreturn]] void live(const Fd &socket, const std::filesystem::path &node) {
  ::setsid(); // ^C is for the command.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  Introduction introduction{};
  if (::read(socket.get(), &introduction, sizeof(introduction)) != sizeof(introduction))
    ::_exit(0); // It could not be trapped, and has said so.
  const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, introduction.process, 0U))};
  auto listener = client::copy_descriptor(process, ClientFd{introduction.listener});
  if (!listener || ::write(socket.get(), "", 1) != 1)
    ::_exit(1);
  serve_until_nobody_is_left(Listener(std::move(*listener)), node);
}

} // namespace

void supervise(Fd listener, const std::filesystem::path &node) {
  serve_until_nobody_is_left(Listener(std::move(listener)), node);
}

Result<Supervisor> Supervisor::start(const std::filesystem::path &node) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail_errno("socketpair");
  Fd ours{pair[0]};
  const Fd theirs{pair[1]};
  const pid_t pid = ::fork();
  if (pid < 0)
    return fail_errno("fork");
  if (pid == 0) {
    ours.reset();
    live(theirs, node);
  }
  return Supervisor(pid, std::move(ours));
}

Supervisor::Supervisor(Supervisor &&other) noexcept
    : pid_(std::exchange(other.pid_, 0)), socket_(std::move(other.socket_)) {}

Supervisor::~Supervisor() {
  if (pid_ == 0)
    return;
  socket_.reset(); // It may not have been introduced to anybody.
  constexpr int patience = 100;
  for (int tries = 0; tries < patience && ::waitpid(pid_, nullptr, WNOHANG) == 0; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

Result<void> Supervisor::supervise_this_process() const {
  const auto listener = trap_ioctls();
  if (!listener)
    return pass_on(listener);
  const Introduction introduction{.process = ::getpid(), .listener = listener->get()};
  char answer = 0;
  if (::write(socket_.get(), &introduction, sizeof(introduction)) != sizeof(introduction) ||
      ::read(socket_.get(), &answer, 1) != 1)
    return fail(ESRCH, "the supervisor has ended");
  return {};
}

} // namespace vfio_shim::supervise
