#include "supervise/kvm_registration.hpp"

#include "client/borrowed_thread.hpp"
#include "client/calling_thread.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/process_memory.hpp"
#include "vfio_shim/topology.hpp"

#include <cstring>
#include <filesystem>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervise/vfio_files.hpp"

namespace vfio_shim::supervise {

namespace {

/// What KVM_SET_DEVICE_ATTR points to, and what that points to, in the client's memory.
struct Argument {
  kvm_device_attr attribute;
  std::int32_t file;
};
static_assert(sizeof(Argument) <= client::BorrowedThread::scratch_size);

/// A group that KVM is to learn of, or to forget.
struct Request {
  GroupId group;
  kvm_device_attr attribute;
};

Fd open_process(Tid thread) {
  return Fd{static_cast<int>(::syscall(SYS_pidfd_open, client::process_of(thread).value, 0U))};
}

bool is_kvm_vfio_device(Tid thread, ClientFd file) {
  std::error_code error;
  const std::filesystem::path target =
      std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", thread.value, file.value), error);
  return !error && target == "anon_inode:kvm-vfio";
}

/// Reads an object of the client. Nothing if it cannot be read.
template <typename Object>
std::optional<Object> read_object(Tid thread, std::uint64_t address) {
  Object object{};
  if (!read_memory(thread, ClientAddr{address}, std::as_writable_bytes(std::span(&object, 1))))
    return std::nullopt;
  return object;
}

/// What the call asks for. Nothing if it is not about a group of ours.
std::optional<Request> understand(const TrappedCall &call, const Fd &process) {
  if (!is_kvm_vfio_device(call.thread, call.file))
    return std::nullopt;
  const auto attribute = read_object<kvm_device_attr>(call.thread, call.argument);
  if (!attribute || attribute->group != KVM_DEV_VFIO_GROUP ||
      (attribute->attr != KVM_DEV_VFIO_GROUP_ADD && attribute->attr != KVM_DEV_VFIO_GROUP_DEL))
    return std::nullopt;
  const auto number = read_object<std::int32_t>(call.thread, attribute->addr);
  if (!number)
    return std::nullopt;
  const auto file = client::copy_descriptor(process, ClientFd{*number});
  const auto group = file ? group_behind(*file) : std::nullopt;
  if (!group)
    return std::nullopt;
  return Request{.group = *group, .attribute = *attribute};
}

Result<std::vector<Fd>> open_devices(GroupId id) {
  const auto group = topology::find(id);
  if (!group)
    return pass_on(group);
  std::vector<Fd> files;
  for (const topology::Device &device : group->devices) {
    Fd file{::open(device.cdev.c_str(), O_RDWR | O_CLOEXEC)};
    if (!file)
      return fail_errno(device.cdev);
    files.push_back(std::move(file));
  }
  return files;
}

/// KVM takes such calls only from the process whose machine it is.
Result<void> set_attribute(client::BorrowedThread &thread, const Fd &process, ClientFd kvm,
                           kvm_device_attr attribute, const Fd &file) {
  const auto number = client::install_descriptor(thread, process, file, client::least_supervised);
  if (!number)
    return pass_on(number);
  const auto scratch = thread.scratch();
  if (!scratch)
    return pass_on(scratch);
  attribute.addr = scratch->value + offsetof(Argument, file);
  const Argument argument{.attribute = attribute, .file = number->value};
  VFIO_SHIM_TRY(write_memory(thread.id(), *scratch, std::as_bytes(std::span(&argument, 1))));
  const auto done = thread.system_call(SYS_ioctl, {static_cast<std::uint64_t>(kvm.value),
                                                   KVM_SET_DEVICE_ATTR, scratch->value, 0, 0, 0});
  (void)thread.system_call(SYS_close, {static_cast<std::uint64_t>(number->value), 0, 0, 0, 0, 0});
  if (!done)
    return pass_on(done);
  return {};
}

/// All of @p files, or none.
Result<void> set_attributes(client::BorrowedThread &thread, const Fd &process, ClientFd kvm,
                            kvm_device_attr attribute, std::span<const Fd> files) {
  for (std::size_t done = 0; done < files.size(); ++done) {
    auto set = set_attribute(thread, process, kvm, attribute, files[done]);
    if (set)
      continue;
    kvm_device_attr undo = attribute;
    undo.attr = KVM_DEV_VFIO_GROUP_DEL;
    if (attribute.attr == KVM_DEV_VFIO_GROUP_ADD)
      for (const Fd &file : files.first(done))
        (void)set_attribute(thread, process, kvm, undo, file);
    return set;
  }
  return {};
}

} // namespace

bool KvmRegistrations::serve(const Listener &listener, const TrappedCall &call) {
  Fd process = open_process(call.thread);
  const auto request = process ? understand(call, process) : std::nullopt;
  if (!request || !listener.waits(call))
    return false;
  const Pid pid = client::process_of(call.thread);
  const Key key{pid, call.file, request->group};

  auto files = files_for(key);
  if (!files) {
    listener.answer(call, -files.error().code);
    return true;
  }
  bool answered = false;
  const auto thread = client::BorrowedThread::borrow(call.thread, [&] {
    answered = true;
    listener.answer(call, -ENOSYS); // As after the supervisor's death.
    return true;
  });
  Result<void> done =
      thread ? set_attributes(**thread, process, call.file, request->attribute, **files)
             : Result<void>(pass_on(thread));
  if (!done) // What KVM itself answers is the client's affair; that nobody could ask it is not.
    spdlog::log(thread ? spdlog::level::debug : spdlog::level::warn,
                "{}: KVM_SET_DEVICE_ATTR for group {}: {}", client::describe_process(pid),
                request->group.value, done.error().describe());
  const bool known = request->attribute.attr == KVM_DEV_VFIO_GROUP_ADD
                         ? done || done.error().code == EEXIST
                         : !done && done.error().code != ENOENT;
  keep(key, known ? Registration{std::move(process), *files} : Registration{});
  if (thread)
    (*thread)->give_back(done ? 0 : -done.error().code);
  else if (!answered)
    listener.answer(call, -done.error().code);
  return true;
}

Result<std::shared_ptr<const std::vector<Fd>>> KvmRegistrations::files_for(const Key &key) {
  const std::scoped_lock lock(mutex_);
  if (const auto known = registrations_.find(key); known != registrations_.end())
    return known->second.files;
  auto opened = open_devices(std::get<GroupId>(key));
  if (!opened)
    return pass_on(opened);
  return std::make_shared<const std::vector<Fd>>(std::move(*opened));
}

void KvmRegistrations::keep(const Key &key, Registration registration) {
  const std::scoped_lock lock(mutex_);
  if (registration.files)
    registrations_.insert_or_assign(key, std::move(registration));
  else
    registrations_.erase(key);
}

bool KvmRegistrations::prune() {
  const std::scoped_lock lock(mutex_);
  std::erase_if(registrations_, [](const auto &entry) {
    const auto &[pid, kvm, group] = entry.first;
    return client::has_ended(entry.second.process) || !is_kvm_vfio_device(Tid{pid.value}, kvm);
  });
  return !registrations_.empty();
}

} // namespace vfio_shim::supervise
