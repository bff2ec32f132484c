/// @file
/// The group's ioctls, one handler each. Source of the rules: drivers/vfio/group.c.

#include "abi/vfio.hpp"
#include "topology/device_file.hpp"
#include "type1/operations.hpp"

#include "vfio_shim/group.hpp"
#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shortage.hpp"

namespace vfio_shim {

using type1::Argument;
using type1::ArgumentKind;

namespace {

constexpr std::size_t client_page_size = 4096;
/// Each costs a descriptor, and clients must not exhaust ours.
constexpr std::size_t most_holders = 8;

/// Reads a NUL-terminated string of at most a page, NUL included.
/// @return EFAULT: not readable. EINVAL: longer.
Result<std::string> read_string(Client &client, ClientAddr from) {
  std::string text;
  while (text.size() < client_page_size) {
    // Never past a page's end: the next page may not be there, and need not be.
    const std::uint64_t start = from.value + text.size();
    const std::size_t rest_of_page = client_page_size - start % client_page_size;
    std::array<char, 64> chunk{};
    const std::size_t size = std::min({chunk.size(), rest_of_page, client_page_size - text.size()});
    const auto bytes = std::span(chunk).first(size);
    VFIO_SHIM_TRY(client.read(ClientAddr{start}, std::as_writable_bytes(bytes)));
    const auto end = std::ranges::find(bytes, '\0');
    text.append(bytes.begin(), end);
    if (end != bytes.end())
      return text;
  }
  return fail(EINVAL, "string longer than a page");
}

/// The device that @p text names, as the kernel matches it: a name, then options.
Result<topology::Device> named_device(const topology::Group &group, std::string_view text) {
  const std::string_view name = text.substr(0, text.find(' '));
  const auto found = std::ranges::find(group.devices, name, &topology::Device::name);
  if (found == group.devices.end())
    return fail(ENODEV, fmt::format("no device {} in group {}", quoted_name(name), group.id.value));
  const std::string_view options = text.substr(name.size());
  if (options.find_first_not_of(' ') != std::string_view::npos)
    return fail(EINVAL,
                fmt::format("device options {} not supported (VF tokens)", quoted_name(options)));
  return *found;
}

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

/// The handlers. Each takes the group's lock itself: SET_CONTAINER must look at the client first.
struct GroupCalls {
  using Operation = type1::Operation<Group>;

  static Result<long> get_status(Group &group, Client &client, const Argument &argument) {
    auto status = argument.as<vfio_group_status>();
    status.flags = 0;
    {
      const std::scoped_lock lock(group.mutex_);
      if (group.container_)
        status.flags = VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE;
      else {
        const auto viable = topology::viable(group.id_, group.roots_);
        if (!viable)
          return pass_on(viable);
        status.flags = *viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
      }
    }
    VFIO_SHIM_TRY(type1::write_struct(client, argument.address(), status));
    return 0;
  }

  static Result<long> set_container(Group &group, Client &client, const Argument &argument) {
    const auto file = client.copy_of(ClientFd{argument.as<int>()});
    if (!file)
      return pass_on(file);

    const std::scoped_lock lock(group.mutex_);
    if (group.closed_)
      return fail(ENODEV, "the group is closed, or was unplugged");
    if (group.container_)
      return fail(EINVAL, "group is in a container already");
    const auto found = client.container_behind(*file);
    if (!found)
      return pass_on(found);
    const std::shared_ptr<Container> &container = *found;
    if (!container)
      return fail(EBADFD, "not a container's file");
    const auto topology = topology::find(group.id_, group.roots_);
    if (!topology)
      return cannot_look(topology.error());
    auto joined = container->join(*topology, group.record_);
    if (!joined)
      return pass_on(joined);
    group.membership_ = std::move(*joined);
    group.container_ = container;
    return 0;
  }

  static Result<long> unset_container(Group &group, Client & /*client*/,
                                      const Argument & /*argument*/) {
    const std::scoped_lock lock(group.mutex_);
    if (!group.container_)
      return fail(EINVAL, "group is in no container");
    if (!group.leave_if_unused())
      return fail(EBUSY, "a device of the group is open");
    return 0;
  }

  static Result<long> get_device_fd(Group &group, Client &client, const Argument &argument) {
    const auto name = read_string(client, argument.address());
    if (!name)
      return pass_on(name);
    const auto topology = topology::find(group.id_, group.roots_);
    if (!topology)
      return cannot_look(topology.error());
    const auto device = named_device(*topology, *name);
    if (!device)
      return pass_on(device);

    const std::scoped_lock lock(group.mutex_);
    if (!group.container_)
      return fail(EINVAL, "group is in no container");
    group.any_device_open(); // Forgets those that are not.
    auto file = group.container_->open_device(group.id_, *device);
    if (!file && file.error().code == EBUSY)
      file = find_given(group, client, *device);
    if (!file)
      return pass_on(file);
    auto given = entry_of(group, *device);
    if (!given)
      return pass_on(given);
    const auto number = client.hand_over(*file);
    if (!number) {
      file->reset();
      group.any_device_open(); // Forgets it if it was not open before.
      return pass_on(number);
    }
    note_given(group, client, **given, *number);
    return number->value;
  }

  static constexpr std::array<Operation, 4> table = {{
      {VFIO_GROUP_GET_STATUS, "VFIO_GROUP_GET_STATUS", ArgumentKind::sized_struct,
       sizeof(vfio_group_status), get_status},
      {VFIO_GROUP_SET_CONTAINER, "VFIO_GROUP_SET_CONTAINER", ArgumentKind::pointer, sizeof(int),
       set_container},
      {VFIO_GROUP_UNSET_CONTAINER, "VFIO_GROUP_UNSET_CONTAINER", ArgumentKind::value, 0,
       unset_container},
      {VFIO_GROUP_GET_DEVICE_FD, "VFIO_GROUP_GET_DEVICE_FD", ArgumentKind::pointer, 0,
       get_device_fd},
  }};

private:
  /// The kernel opens a device as often as it is asked to; a cdev is bound to an iommufd only once.
  /// So another open of the same device is another descriptor of the same file.
  static Result<Fd> find_given(Group &group, Client &client, const topology::Device &device) {
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
    auto copy = copy_of_device([&client](ClientFd number) { return client.copy_of(number); },
                               client.pid(), device.name, ClientFd{-1}, group.roots_);
    if (!copy || *copy)
      return copy;
    return fail(EBUSY,
                fmt::format("device {} is open, but not where it was handed over", device.name));
  }

  /// What is known of a device that is open, or about to be.
  static Result<Group::GivenDevice *> entry_of(Group &group, const topology::Device &device) {
    const auto known = std::ranges::find(group.given_, device.name, &Group::GivenDevice::name);
    if (known != group.given_.end())
      return &*known;
    const auto record = group.ledger_.device_opened(group.record_, device.name);
    if (record == 0)
      return fail_for_operator(ENOMEM, "the ledger has no room for another device");
    return &group.given_.emplace_back(
        Group::GivenDevice{.name = device.name, .record = record, .holders = {}});
  }

  static void note_given(Group &group, Client &client, Group::GivenDevice &given, ClientFd number) {
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
    if (const auto *operation = type1::find_operation(GroupCalls::table, command))
      return type1::carry_out(*operation, *this, client, argument);
    return fail(ENOTTY, fmt::format("unknown ioctl {:#x}", command));
  });
}

std::string_view Group::call_name(unsigned int command) {
  const auto *operation = type1::find_operation(GroupCalls::table, command);
  return operation != nullptr ? operation->name : std::string_view{};
}

} // namespace vfio_shim
