// SPDX-License-Identifier: MIT
/// @file
/// The group's ioctls, one handler each. What they answer is decided in rules/, as far as the
/// group's state and the call say it; here it is done.

#include "rules/group_rules.hpp"
#include "rules/operations.hpp"
#include "rules/read_call.hpp"
#include "topology/device_file.hpp"
#include "type1/catching_bad_alloc.hpp"

#include "vfio_shim/group.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shortage.hpp"

namespace vfio_shim {

namespace {

/// Each costs a descriptor, and clients must not exhaust ours.
constexpr std::size_t most_holders = 8;

/// A copy of a descriptor of the process behind the pidfd @p process.
Result<Fd> copy_from(const Fd &process, ClientFd number) {
  Fd copy{static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number.value, 0U))};
  if (!copy)
    return fail_errno("pidfd_getfd");
  return copy;
}

/// Where the process's descriptors are listed: at the first of its threads that still has them.
/// @return ENOMEM, EMFILE, ENFILE: we could not look.
Result<std::filesystem::path> descriptors_of(Pid pid) {
  using Entries = std::filesystem::directory_iterator;
  const std::filesystem::path process = fmt::format("/proc/{}", pid.value);
  std::error_code error;
  for (Entries thread(process / "task", error), end; !error && thread != end;
       thread.increment(error)) {
    std::error_code ended;
    if (Entries(thread->path() / "fd", ended) != end && !ended)
      return thread->path() / "fd";
    if (is_shortage(ended.value()))
      return fail(ended.value(), thread->path());
  }
  if (is_shortage(error.value()))
    return fail(error.value(), process);
  return process / "fd";
}

/// A failure to look at sysfs. If there were too many descriptors, they were not the client's.
tl::unexpected<Error> cannot_look(Error error) {
  if (error.code == EMFILE)
    error.code = ENFILE;
  return tl::unexpected<Error>(std::move(error));
}

/// A copy of the device's open file in a process: of descriptor @p likely if that is it, or else of
/// any that is. Nothing if the process has it open no more. ENOMEM: we could not look everywhere.
/// @param copy_of Copies a descriptor of the process @p pid: of a process that uses its number
///        again, it copies nothing.
Result<Fd> copy_of_device(const std::function<Result<Fd>(ClientFd)> &copy_of, Pid pid,
                          std::string_view device, ClientFd likely, const topology::Roots &roots) {
  bool short_of_room = false;
  const auto look_at = [&short_of_room](int code) {
    short_of_room = short_of_room || is_shortage(code);
  };
  const auto copy_if_device = [&](int number) {
    auto copy = copy_of(ClientFd{number});
    const auto name =
        copy ? topology::device_behind(*copy, roots) : Result<std::string>(pass_on(copy));
    if (!name)
      look_at(name.error().code);
    return name && *name == device ? std::move(*copy) : Fd{};
  };
  if (Fd copy = copy_if_device(likely.value))
    return copy;
  const auto numbers = descriptors_of(pid);
  if (!numbers)
    return fail(ENOMEM, "looking for the device's open file");
  std::error_code error;
  for (std::filesystem::directory_iterator entry(*numbers, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto name = topology::device_at(entry->path(), roots);
    if (!name)
      look_at(name.error().code);
    if (!name || *name != device)
      continue; // Not even copied: to close the copy of a file may wait for its server.
    if (Fd copy = copy_if_device(std::atoi(entry->path().filename().c_str())))
      return copy;
  }
  look_at(error.value());
  if (short_of_room)
    return fail(ENOMEM, "looking for the device's open file");
  return Fd{};
}

} // namespace

/// Serves one call. Each handler takes the group's lock itself: SET_CONTAINER must look at the
/// client first.
struct GroupCalls {
  Group &group;
  Client &client;
  ClientAddr argument; ///< Where the call's struct lies, for those that have one.

  Result<long> operator()(const rules::GetStatus &call) const {
    rules::GetStatus answer;
    {
      const std::scoped_lock lock(group.mutex_);
      const bool in_container = group.container_ != nullptr;
      const auto viable =
          in_container ? Result<bool>(true) : topology::viable(group.id_, group.roots_);
      if (!viable)
        return pass_on(viable);
      answer = rules::answer_to(call, *viable, in_container);
    }
    VFIO_SHIM_TRY(client.write(argument, rules::encode(answer)));
    return 0;
  }

  Result<long> operator()(const rules::SetContainer &call) const {
    const auto file = client.copy_of(call.container);
    if (!file)
      return pass_on(file);

    const std::scoped_lock lock(group.mutex_);
    VFIO_SHIM_TRY(rules::check_set_container(group.closed_, group.container_ != nullptr));
    auto found = client.container_behind(*file);
    if (found && !*found)
      found = client.container_in_place_of(call.container, *file);
    if (!found)
      return pass_on(found);
    const std::shared_ptr<Container> &container = *found;
    if (!container)
      return fail(EBADFD, "not a container's file");
    const auto topology = topology::find(group.id_, group.roots_);
    if (!topology)
      return cannot_look(topology.error());
    client.about_to({.kind = Intention::Kind::join});
    auto joined = container->join(*topology, group.record_);
    if (!joined)
      return pass_on(joined);
    group.membership_ = std::move(*joined);
    group.container_ = container;
    return 0;
  }

  Result<long> operator()(const rules::UnsetContainer & /*call*/) const {
    const std::scoped_lock lock(group.mutex_);
    VFIO_SHIM_TRY(rules::check_in_container(group.container_ != nullptr));
    client.about_to({.kind = Intention::Kind::leave});
    if (!group.leave_if_unused())
      return fail(EBUSY, "a device of the group is open");
    client.group_left(group.id_);
    return 0;
  }

  Result<long> operator()(const rules::GetDeviceFd &call) const {
    const auto topology = topology::find(group.id_, group.roots_);
    if (!topology)
      return cannot_look(topology.error());
    const auto device = rules::find_device(call, *topology);
    if (!device)
      return pass_on(device);

    const std::scoped_lock lock(group.mutex_);
    VFIO_SHIM_TRY(rules::check_in_container(group.container_ != nullptr));
    group.any_device_open(); // Forgets those that are not.
    auto file = group.container_->open_device(group.id_, *device);
    if (!file && file.error().code == EBUSY)
      file = find_given(*device);
    if (!file)
      return pass_on(file);
    auto given = entry_of(*device);
    if (!given)
      return pass_on(given);
    const auto number = client.hand_over(*file);
    if (!number) {
      file->reset();
      group.any_device_open(); // Forgets it if it was not open before.
      return pass_on(number);
    }
    note_given(**given, *number);
    client.device_given(group.id_, *device);
    return number->value;
  }

  /// What is no call on a group.
  template <typename Other>
  Result<long> operator()(const Other & /*call*/) const {
    return fail(ENOTTY, "unknown ioctl");
  }

private:
  /// The kernel opens a device as often as it is asked to; a cdev is bound to an iommufd only once.
  /// So another open of the same device is another descriptor of the same file.
  Result<Fd> find_given(const topology::Device &device) const {
    const auto given = std::ranges::find(group.given_, device.name, &Group::GivenDevice::name);
    if (given != group.given_.end())
      for (const Group::Holder &holder : given->holders) {
        // Of the caller's own process, through the calling thread: the first one may have ended.
        const bool own = holder.pid == client.pid();
        auto copy = copy_of_device(
            [&](ClientFd number) {
              return own ? client.copy_of(number) : copy_from(holder.process, number);
            },
            holder.pid, device.name, holder.number, group.roots_);
        if (!copy || *copy)
          return copy;
      }
    // The holder may have passed it on, and ended.
    auto copy = copy_of_device([this](ClientFd number) { return client.copy_of(number); },
                               client.pid(), device.name, ClientFd{-1}, group.roots_);
    if (!copy || *copy)
      return copy;
    return fail(EBUSY,
                fmt::format("device {} is open, but not where it was handed over", device.name));
  }

  /// What is known of a device that is open, or about to be.
  Result<Group::GivenDevice *> entry_of(const topology::Device &device) const {
    const auto known = std::ranges::find(group.given_, device.name, &Group::GivenDevice::name);
    if (known != group.given_.end())
      return &*known;
    const auto record = group.ledger_.device_opened(group.record_, device.name);
    if (record == 0)
      return fail_for_operator(ENOMEM, "the ledger has no room for another device");
    return &group.given_.emplace_back(
        Group::GivenDevice{.name = device.name, .record = record, .holders = {}});
  }

  void note_given(Group::GivenDevice &given, ClientFd number) const {
    group.ledger_.device_given(given.record, client.pid(), number);
    group.container_->given_away(group.id_, given.name);
    std::erase_if(given.holders,
                  [&](const Group::Holder &holder) { return holder.pid == client.pid(); });
    if (given.holders.size() == most_holders)
      given.holders.erase(given.holders.begin());
    if (auto process = client.process())
      given.holders.push_back(
          {.process = std::move(*process), .pid = client.pid(), .number = number});
  }
};

Result<long> Group::call(Client &client, unsigned int command, std::uint64_t argument) {
  return type1::catching_bad_alloc([&]() -> Result<long> {
    const auto *const operation = rules::find_operation(command);
    VFIO_SHIM_TRY(rules::check_operation(operation));
    const auto call = rules::read_call(*operation, client, argument);
    if (!call)
      return pass_on(call);
    if (const auto outcome = client.outcome(); outcome && outcome->carried_out)
      return 0;
    return std::visit(
        GroupCalls{.group = *this, .client = client, .argument = ClientAddr{argument}}, *call);
  });
}

std::string_view Group::call_name(unsigned int command) {
  const auto *const operation = rules::find_operation(command);
  return rules::check_operation(operation) ? operation->name : std::string_view{};
}

} // namespace vfio_shim
