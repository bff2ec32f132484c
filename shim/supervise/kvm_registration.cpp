// SPDX-License-Identifier: MIT
#include "supervise/kvm_registration.hpp"

#include "client/borrowed_thread.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/kvm_vfio_device.hpp"
#include "client/thread_state.hpp"

#include "vfio_shim/topology.hpp"

#include <optional>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>

#include "supervise/caller.hpp"
#include "supervise/vfio_files.hpp"

namespace vfio_shim::supervise {

namespace {

/// A group that KVM is to learn of, or to forget.
struct Request {
  GroupId group;
  Fd group_file;
  kvm_device_attr attribute;
};

/// Whether the process still has KVM's device there.
bool has_kvm_vfio_device(Pid pid, const Fd &process, ClientFd number) {
  if (client::has_ended(process))
    return false;
  const auto file = client::copy_descriptor(process, number);
  if (file)
    return client::is_kvm_vfio_device(*file);
  // If only its first thread has ended, its descriptors cannot be seen: that tells nothing.
  return client::is_exiting(Tid{pid.value}) && !client::has_ended(process);
}

/// What the call asks for. Nothing if it is not about a group of ours, or if the caller is gone.
std::optional<Request> understand(const TrappedCall &call, const Caller &caller) {
  const auto kvm = caller.copy_of(call.file);
  if (!kvm || !client::is_kvm_vfio_device(*kvm))
    return std::nullopt;
  const auto attribute = caller.read_object<kvm_device_attr>(ClientAddr{call.argument});
  if (!attribute || attribute->group != KVM_DEV_VFIO_GROUP ||
      (attribute->attr != KVM_DEV_VFIO_GROUP_ADD && attribute->attr != KVM_DEV_VFIO_GROUP_DEL))
    return std::nullopt;
  const auto number = caller.read_object<std::int32_t>(ClientAddr{attribute->addr});
  if (!number)
    return std::nullopt;
  auto file = caller.copy_of(ClientFd{*number});
  const auto group = file ? group_behind(*file) : std::nullopt;
  if (!group)
    return std::nullopt;
  return Request{.group = *group, .group_file = std::move(*file), .attribute = *attribute};
}

/// Gives the files to the caller. Their numbers there are added to @p numbers.
Result<void> install(const Listener &listener, const TrappedCall &call, std::span<const Fd> files,
                     std::vector<ClientFd> &numbers) {
  for (const Fd &file : files) {
    const auto number = listener.install(call, file);
    if (!number)
      return pass_on(number);
    numbers.push_back(*number);
  }
  return {};
}

/// Descriptors of the client that go with this object.
class Installed {
public:
  Installed(client::BorrowedThread &thread, std::vector<ClientFd> numbers)
      : thread_(thread), numbers_(std::move(numbers)) {}
  Installed(const Installed &) = delete;
  Installed &operator=(const Installed &) = delete;
  ~Installed() {
    for (const ClientFd number : numbers_)
      (void)thread_.system_call(SYS_close,
                                {static_cast<std::uint64_t>(number.value), 0, 0, 0, 0, 0});
  }

  std::span<const ClientFd> numbers() const { return numbers_; }

private:
  client::BorrowedThread &thread_;
  std::vector<ClientFd> numbers_;
};

Result<void> set_attribute(client::BorrowedThread &thread, ClientFd kvm, kvm_device_attr attribute,
                           ClientFd file) {
  const auto area = thread.area();
  if (!area)
    return pass_on(area);
  return client::set_kvm_file(thread, area->scratch(), kvm, attribute, file);
}

/// All of @p files, or none.
Result<void> set_attributes(client::BorrowedThread &thread, ClientFd kvm, kvm_device_attr attribute,
                            std::span<const ClientFd> files) {
  for (std::size_t done = 0; done < files.size(); ++done) {
    auto set = set_attribute(thread, kvm, attribute, files[done]);
    if (set)
      continue;
    kvm_device_attr undo = attribute;
    undo.attr = KVM_DEV_VFIO_GROUP_DEL;
    if (attribute.attr == KVM_DEV_VFIO_GROUP_ADD)
      for (const ClientFd file : files.first(done))
        (void)set_attribute(thread, kvm, undo, file);
    return set;
  }
  return {};
}

} // namespace

bool KvmRegistrations::serve(const Listener &listener, const TrappedCall &call,
                             client::ClientAreas &areas) {
  const auto caller = Caller::of(listener, call, areas);
  auto request = caller ? understand(call, *caller) : std::nullopt;
  if (!request)
    return false;
  const Key key{caller->pid(), call.file, request->group};
  auto files = files_for(key, request->group_file, caller->describe());
  request->group_file.reset(); // Once the caller has its answer, what it closes must be closed.
  if (!files) {
    listener.answer(call, -files.error().code);
    return true;
  }

  std::vector<ClientFd> numbers;
  Result<void> done;
  const auto thread = caller->borrow([&] { done = install(listener, call, **files, numbers); });
  if (thread) {
    const Installed installed(**thread, std::move(numbers));
    if (done)
      done = set_attributes(**thread, call.file, request->attribute, installed.numbers());
  } else {
    done = pass_on(thread);
  }
  if (!done) // What KVM itself answers is the client's affair; that nobody could ask it is not.
    spdlog::log(thread || done.error().code == ESRCH ? spdlog::level::debug : spdlog::level::warn,
                "{}: KVM_SET_DEVICE_ATTR for group {}: {}", caller->describe(),
                request->group.value, done.error().describe());
  const bool known = request->attribute.attr == KVM_DEV_VFIO_GROUP_ADD
                         ? done || done.error().code == EEXIST
                         : !done && done.error().code != ENOENT;
  keep(key, known ? Registration{caller->process().duplicate(), *files} : Registration{});
  if (thread)
    (*thread)->give_back(done ? 0 : -done.error().code);
  else
    listener.answer(call, -done.error().code); // If nobody has.
  return true;
}

Result<std::shared_ptr<const client::DeviceFiles>>
KvmRegistrations::files_for(const Key &key, const Fd &group_file, const std::string &caller) {
  {
    const std::scoped_lock lock(mutex_);
    const auto known = registrations_.find(key);
    if (known != registrations_.end() && !client::has_ended(known->second.process))
      return known->second.files;
  }
  const auto group = topology::find(std::get<GroupId>(key));
  if (!group)
    return pass_on(group);
  return lent_.lend(
      *group, caller,
      std::make_shared<const Fd>(
          ::open(fmt::format("/proc/self/fd/{}", group_file.get()).c_str(), O_PATH | O_CLOEXEC)));
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
    return !has_kvm_vfio_device(pid, entry.second.process, kvm);
  });
  return lent_.look_after() || !registrations_.empty();
}

} // namespace vfio_shim::supervise
