// SPDX-License-Identifier: MIT
#include "client/calling_thread.hpp"

#include "client/descriptor_reserve.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/kvm_vfio_device.hpp"
#include "client/memory_map.hpp"
#include "client/pagemap.hpp"
#include "client/process_handle.hpp"
#include "client/thread_state.hpp"
#include "topology/coherency.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/command_name.hpp"
#include "vfio_shim/process_memory.hpp"
#include "vfio_shim/topology.hpp"

#include <array>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace vfio_shim::client {

namespace {

/// A group that is none.
constexpr GroupId no_group{~std::uint32_t{0}};

/// Whether the thread holds CAP_IPC_LOCK where the kernel looks for it: in the initial user
/// namespace, which is the daemon's own.
///
/// @param files Of the thread.
bool has_ipc_lock(Tid thread, MemoryFiles &files) {
  static const std::string our_namespace = [] {
    std::string name = MemoryFiles().user_namespace(Tid{::getpid()});
    return name.empty() ? "unknown" : name; // Then all are charged.
  }();
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = thread.value};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  return ::syscall(SYS_capget, &header, sets.data()) == 0 &&
         (sets[0].effective & (1U << CAP_IPC_LOCK)) != 0 &&
         files.user_namespace(thread) == our_namespace;
}

/// Has the thread make an ioctl on its descriptor @p file, with the argument at @p place.
Result<void> call_ioctl(TracedThread &thread, ClientFd file, unsigned long command,
                        ClientAddr place, std::span<const std::byte> argument) {
  VFIO_SHIM_TRY(write_memory(thread.id(), place, argument));
  CallWitness &witness = CallWitness::current();
  witness.kernel_entered(command);
  const auto done = thread.system_call(
      SYS_ioctl, {static_cast<std::uint64_t>(file.value), command, place.value, 0, 0, 0});
  witness.kernel_left(command, done ? 0 : done.error().code);
  return done ? Result<void>{} : pass_on(done);
}

} // namespace

Pid process_of(Tid thread) {
  return thread_group(thread).value_or(Pid{thread.value});
}

std::string describe_process(Pid process) {
  const std::string name = command_name(process);
  return fmt::format("{}[{}]", name.empty() ? "?" : name, process.value);
}

CallingThread::CallingThread(Tid thread, std::function<bool()> answer_early,
                             ResidentDescriptors &residents, Surroundings surroundings)
    : thread_(thread),
      answer_early_(std::move(answer_early)),
      residents_(residents),
      surroundings_(std::move(surroundings)) {}

bool CallingThread::finish(long result) {
  errand_.reset();
  if (borrowed_) {
    borrowed_->give_back(result);
    CallWitness::current().borrow_ended();
  }
  borrowed_.reset();
  return answered_early_;
}

std::string CallingThread::describe() const {
  return describe_process(pid());
}

Pid CallingThread::pid() const {
  return process_of(thread_);
}

/// A thread that is borrowed is ours until we let it go, whoever answers.
Result<void> CallingThread::check_caller() const {
  return borrowed_ || !surroundings_.hold ? Result<void>{} : surroundings_.hold->check();
}

Result<Fd> CallingThread::process() {
  VFIO_SHIM_TRY(check_caller());
  const auto group = thread_group(thread_);
  if (!group)
    return pass_on(group);
  return open_process(*group);
}

Result<void> CallingThread::read(ClientAddr from, std::span<std::byte> to) {
  VFIO_SHIM_TRY(check_caller());
  VFIO_SHIM_TRY(read_memory(thread_, from, to));
  CallWitness::current().was_read(from, to);
  return {};
}

Result<void> CallingThread::write(ClientAddr to, std::span<const std::byte> from) {
  VFIO_SHIM_TRY(check_caller());
  VFIO_SHIM_TRY(write_memory(thread_, to, from));
  CallWitness::current().was_written(to, from);
  return {};
}

Result<void> CallingThread::ioctl_in_client(const Fd &file, Lending lending, unsigned long command,
                                            std::span<const std::byte> argument) {
  return lending == Lending::openly ? ioctl_openly(file, command, argument)
                                    : ioctl_privately(file, command, argument);
}

Result<void> CallingThread::ioctl_openly(const Fd &file, unsigned long command,
                                         std::span<const std::byte> argument) {
  const auto known = residents_.find(thread_, file);
  if (!known)
    return pass_on(known);
  const auto thread = borrowed();
  if (!thread)
    return pass_on(thread);
  const auto there = *known ? Result<Foothold>(**known) : make_resident(**thread, file);
  if (!there)
    return pass_on(there);
  const auto area = (*thread)->area();
  if (!area)
    return pass_on(area);
  const auto done = call_ioctl(**thread, there->file, command, area->scratch(), argument);
  if (!there->stays) {
    (void)(*thread)->leave_descriptors(); // It must not be closed a second time.
    (void)(*thread)->system_call(SYS_close,
                                 {static_cast<std::uint64_t>(there->file.value), 0, 0, 0, 0, 0});
  }
  return done;
}

Result<void> CallingThread::ioctl_privately(const Fd &file, unsigned long command,
                                            std::span<const std::byte> argument) {
  const auto thread = errand();
  if (!thread)
    return pass_on(thread);
  const auto number = (*thread)->take(file);
  if (!number)
    return pass_on(number);
  return call_ioctl(**thread, *number, command, (*thread)->scratch(), argument);
}

/// What tells an address space from others is an inert file that stays in the process: it does not
/// survive an exec.
Result<AddressSpaceId> CallingThread::address_space() {
  VFIO_SHIM_TRY(check_caller());
  const ResidentDescriptor *known = own_resident();
  if (known == nullptr) {
    const Fd inert{::eventfd(0, EFD_CLOEXEC)};
    if (!inert)
      return fail_for_want_of_descriptors("eventfd");
    const auto thread = borrowed();
    if (!thread)
      return pass_on(thread);
    const auto there = make_resident(**thread, inert);
    if (!there)
      return pass_on(there);
    known = own_resident();
    if (known == nullptr)
      return fail(EOPNOTSUPP, "nothing can stay in the client");
  }
  return AddressSpaceId{.number = known->number,
                        .process = known->of,
                        .charged = !has_ipc_lock(thread_, memory_files())};
}

std::vector<std::uint64_t> CallingThread::physical_pages(ClientAddr start, Bytes size) {
  return client::physical_pages(memory_files().pagemap(thread_), start, size);
}

Result<std::vector<MemoryPart>> CallingThread::memory_parts(ClientAddr start, Bytes size,
                                                            Access access) {
  return divide_by_backing(thread_, memory_files(), start, size, access,
                           {.pinned_memory = [this] { return !bound_by_memlock_limit(); },
                            .device_memory = surroundings_.device_memory.get()});
}

Result<Fd> CallingThread::copy_of(ClientFd number) {
  const auto handle = this->handle();
  if (!handle)
    return pass_on(handle);
  return copy_descriptor(**handle, number);
}

Result<std::shared_ptr<Container>> CallingThread::container_behind(const Fd &file) {
  return surroundings_.find_container ? surroundings_.find_container(file, pid()) : nullptr;
}

/// Another thread of the client that changes the descriptor meanwhile has it changed again.
Result<std::shared_ptr<Container>> CallingThread::container_in_place_of(ClientFd number,
                                                                        const Fd &file) {
  if (!surroundings_.make_substitute)
    return nullptr;
  auto substitute = surroundings_.make_substitute(file, pid());
  if (!substitute)
    return pass_on(substitute);
  if (!*substitute)
    return nullptr;
  const auto reached = reach();
  if (!reached)
    return pass_on(reached);
  VFIO_SHIM_TRY(
      replace_descriptor(*reached->thread, *reached->handle, (*substitute)->file, number));
  spdlog::debug("{}: descriptor {}, a container of the kernel's, is one of the shim's now",
                describe(), number.value);
  return std::move((*substitute)->container);
}

Result<ClientFd> CallingThread::hand_over(const Fd &file) {
  const auto reached = reach();
  if (!reached)
    return pass_on(reached);
  // A supervisor's filter; any other one does not mind where a descriptor is.
  const ClientFd least = is_sandboxed(thread_) ? least_supervised : ClientFd{0};
  return install_descriptor(*reached->thread, *reached->handle, file, least);
}

/// A client that runs machines would have KVM know its devices. That KVM does not is no reason not
/// to give it one.
void CallingThread::device_given(GroupId group, const topology::Device &device) {
  if (surroundings_.known_to_kvm == nullptr)
    return;
  if (const auto told = tell_kvm(group, device); !told)
    spdlog::debug("{}: KVM is not told of device {}: {}", describe(), device.name,
                  told.error().describe());
}

Result<void> CallingThread::tell_kvm(GroupId group, const topology::Device &device) {
  const auto handle = this->handle();
  if (!handle)
    return pass_on(handle);
  const auto machines = kvm_vfio_devices_of(thread_, **handle);
  // Where coherency is enforced, KVM does nothing with it, but would keep it from being unbound.
  if (machines.empty() || topology::enforces_coherency(device.name))
    return {};
  const auto thread = borrowed();
  if (!thread)
    return pass_on(thread);
  if ((*thread)->is_trapped(KVM_SET_DEVICE_ATTR))
    return {}; // A supervisor does it, when it is asked to.
  const auto process = this->process();
  if (!process)
    return pass_on(process);
  KnownToKvm &known = *surroundings_.known_to_kvm;
  if (const auto unused = known.unused_of(pid(), no_group); !unused.empty())
    (void)take_from_kvm(unused);
  const auto file =
      known.file_of({.pid = pid(), .process = *process, .name = describe()}, group, device);
  if (!file)
    return pass_on(file);
  const auto told = set_kvm_files(machines, KVM_DEV_VFIO_GROUP_ADD, (*file)->front());
  if (!told)
    known.forget(pid(), {.group = group, .device = device.name, .file = *file});
  else
    spdlog::debug("{}: KVM knows device {} (group {})", describe(), device.name, group.value);
  return told;
}

void CallingThread::group_left(GroupId group) {
  if (surroundings_.known_to_kvm == nullptr)
    return;
  KnownToKvm &known = *surroundings_.known_to_kvm;
  if (const auto unused = known.unused_of(pid(), group); !unused.empty())
    if (const auto taken = take_from_kvm(unused); !taken)
      spdlog::debug("{}: KVM keeps the devices of group {}: {}", describe(), group.value,
                    taken.error().describe());
  known.abandon(group); // What is left of it.
}

Result<void> CallingThread::take_from_kvm(std::span<const KnownToKvm::Known> unused) {
  const auto handle = this->handle();
  if (!handle)
    return pass_on(handle);
  // None: KVM has forgotten by itself.
  const auto machines = kvm_vfio_devices_of(thread_, **handle);
  for (const KnownToKvm::Known &known : unused) {
    if (!machines.empty())
      VFIO_SHIM_TRY(set_kvm_files(machines, KVM_DEV_VFIO_GROUP_DEL, known.file->front()));
    surroundings_.known_to_kvm->forget(pid(), known);
    spdlog::debug("{}: KVM knows device {} (group {}) no more", describe(), known.device,
                  known.group.value);
  }
  return {};
}

/// The files get into no descriptor table of the client's, and what its numbers mean does not
/// matter.
/// @return What kept KVM from it. That some of its machines are another process's does not count.
Result<void> CallingThread::set_kvm_files(std::span<const Fd> machines, std::uint64_t add_or_remove,
                                          const Fd &file) {
  const auto thread = errand();
  if (!thread)
    return pass_on(thread);
  const auto number = (*thread)->take(file);
  if (!number)
    return pass_on(number);
  Result<void> done = fail(ENOENT, "no machine");
  for (const Fd &machine : machines) {
    const auto kvm = (*thread)->take(machine);
    auto set =
        kvm ? set_kvm_file(
                  **thread, (*thread)->scratch(), *kvm,
                  {.flags = 0, .group = KVM_DEV_VFIO_GROUP, .attr = add_or_remove, .addr = 0},
                  *number)
            : pass_on(kvm);
    const int code = set ? 0 : set.error().code;
    if (!done)
      done = code == EEXIST || code == ENOENT ? Result<void>{} : std::move(set);
  }
  return done;
}

Result<void> CallingThread::put_in_place(const Fd &file, const Container &container) {
  const auto put = try_to_put_in_place(file, container);
  if (!put && put.error().code != ESRCH)
    spdlog::info("{}: not express, but exact: {}", describe(), put.error().describe());
  return put;
}

Result<void> CallingThread::try_to_put_in_place(const Fd &file, const Container &container) {
  if (surroundings_.is_32_bit)
    return fail(EOPNOTSUPP, "a 32-bit call");
  const auto reached = reach();
  if (!reached)
    return pass_on(reached);
  const ClientFd number = reached->thread->called_on();
  {
    const auto there = copy_descriptor(*reached->handle, number);
    if (!there)
      return pass_on(there);
    const auto behind = container_behind(*there);
    if (!behind)
      return pass_on(behind);
    if (behind->get() != &container)
      return fail(EBADF, "the descriptor is another file by now");
  }
  const auto replaced = replace_descriptor(*reached->thread, *reached->handle, file, number);
  // Another thread of the client may have got hold of it on its way.
  return replaced ? replaced : fail(ESRCH, replaced.error().where);
}

const ResidentDescriptor *CallingThread::own_resident() {
  if (!own_resident_)
    own_resident_ = residents_.find_own(thread_);
  return *own_resident_;
}

/// They stay open with what tells the caller's address space from others.
MemoryFiles &CallingThread::memory_files() {
  const ResidentDescriptor *known = own_resident();
  const bool may_stay =
      known != nullptr && (known->memory->has_files() || room_for_lasting_descriptors());
  return may_stay ? *known->memory : passing_files_;
}

Result<Foothold> CallingThread::make_resident(BorrowedThread &thread, const Fd &file) {
  own_resident_.reset(); // Others may go.
  const auto handle = this->handle();
  if (!handle)
    return pass_on(handle);
  return residents_.install(thread, **handle, file);
}

Result<BorrowedThread *> CallingThread::borrowed() {
  if (!borrowed_) {
    if (answered_early_)
      return fail(ESRCH, "the client is gone");
    VFIO_SHIM_TRY(check_caller());
    CallWitness::current().borrow_begins();
    auto thread = BorrowedThread::borrow(thread_, surroundings_.areas, *notes_, [this] {
      answered_early_ = true; // Or nobody waits for an answer any more.
      return answer_early_();
    });
    if (!thread) {
      CallWitness::current().borrow_ended();
      return pass_on(thread);
    }
    borrowed_ = std::move(*thread);
  }
  return borrowed_.get();
}

Result<CallingThread::Reached> CallingThread::reach() {
  const auto thread = borrowed();
  if (!thread)
    return pass_on(thread);
  const auto opened = handle();
  if (!opened)
    return pass_on(opened);
  return Reached{.thread = *thread, .handle = *opened};
}

Result<ErrandThread *> CallingThread::errand() {
  if (!errand_) {
    const auto thread = borrowed();
    if (!thread)
      return pass_on(thread);
    auto sent = ErrandThread::send(**thread);
    if (!sent)
      return pass_on(sent);
    errand_ = std::move(*sent);
  }
  return errand_.get();
}

Result<Fd *> CallingThread::handle() {
  if (!handle_) {
    VFIO_SHIM_TRY(check_caller());
    auto opened = open_thread(thread_);
    if (!opened)
      return pass_on(opened);
    handle_ = std::move(*opened);
  }
  return &handle_;
}

bool CallingThread::bound_by_memlock_limit() {
  rlimit limit{};
  if (::prlimit(thread_.value, RLIMIT_MEMLOCK, nullptr, &limit) != 0)
    return true;
  return limit.rlim_cur != RLIM_INFINITY && !has_ipc_lock(thread_, memory_files());
}

} // namespace vfio_shim::client
