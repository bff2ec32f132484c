// SPDX-License-Identifier: MIT
#include "supervise/hot_reset.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <vector>

#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include "supervise/vfio_files.hpp"

namespace vfio_shim::supervise {

namespace {

using Affected = std::vector<vfio_pci_dependent_device>;

/// What both ioctls' arguments begin with, before an array of @p count entries.
struct Header {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t count = 0;
};
static_assert(sizeof(Header) == offsetof(vfio_pci_hot_reset_info, devices));
static_assert(sizeof(Header) == offsetof(vfio_pci_hot_reset, group_fds));

Result<Header> read_header(const Caller &caller, ClientAddr from) {
  auto header = caller.read_object<Header>(from);
  if (header && header->argsz < sizeof(Header))
    return fail(EINVAL, "argsz too small");
  return header;
}

std::optional<std::uint32_t> group_of(const vfio_pci_dependent_device &device) {
  constexpr unsigned int functions = 8;
  std::error_code error;
  const std::string group =
      std::filesystem::read_symlink(
          fmt::format("/sys/bus/pci/devices/{:04x}:{:02x}:{:02x}.{:x}/iommu_group", device.segment,
                      device.bus, device.devfn / functions, device.devfn % functions),
          error)
          .filename();
  std::uint32_t number = 0;
  if (error || std::from_chars(group.data(), group.data() + group.size(), number).ec != std::errc{})
    return std::nullopt;
  return number;
}

/// The devices on the bus, as the kernel tells it of a bound device: without groups.
Result<Affected> devices_on_bus(const Fd &device) {
  std::size_t room = 8;
  for (;;) {
    std::vector<std::byte> bytes(sizeof(Header) + room * sizeof(vfio_pci_dependent_device));
    Header header{.argsz = static_cast<std::uint32_t>(bytes.size())};
    std::memcpy(bytes.data(), &header, sizeof(header));
    const bool done = ::ioctl(device.get(), VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes.data()) == 0;
    if (!done && errno != ENOSPC)
      return fail_errno("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO");
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (done) {
      Affected devices(std::min<std::size_t>(header.count, room));
      std::memcpy(devices.data(), bytes.data() + sizeof(Header),
                  devices.size() * sizeof(vfio_pci_dependent_device));
      return devices;
    }
    room = header.count;
  }
}

Result<Affected> affected_by_reset(const Fd &device) {
  auto devices = devices_on_bus(device);
  if (!devices)
    return devices;
  for (vfio_pci_dependent_device &affected : *devices) {
    const auto group = group_of(affected);
    if (!group)
      return fail(EPERM, "a device on the bus is in no IOMMU group");
    affected.group_id = *group;
  }
  return devices;
}

/// The groups whose files the caller has named.
Result<std::set<std::uint32_t>> named_groups(const Caller &caller, ClientAddr array,
                                             std::size_t count) {
  std::vector<std::int32_t> numbers(count);
  VFIO_SHIM_TRY(caller.read(array, std::as_writable_bytes(std::span(numbers))));
  std::set<std::uint32_t> groups;
  for (const std::int32_t number : numbers) {
    const auto file = caller.copy_of(ClientFd{number});
    if (!file)
      return pass_on(file);
    const auto group = group_behind(*file);
    if (!group)
      return fail(EINVAL, fmt::format("descriptor {} is no group's", number));
    groups.insert(group->value);
  }
  return groups;
}

} // namespace

Result<HotResetInfo> get_hot_reset_info(const Caller &caller, const Fd &device,
                                        ClientAddr argument) {
  auto header = read_header(caller, argument);
  if (!header)
    return pass_on(header);
  const auto affected = affected_by_reset(device);
  if (!affected)
    return pass_on(affected);

  header->flags = 0;
  header->count = static_cast<std::uint32_t>(affected->size());
  const std::size_t room = (header->argsz - sizeof(Header)) / sizeof(vfio_pci_dependent_device);
  const bool fits = affected->size() <= room;
  HotResetInfo info{.bytes = {}, .error = fits ? 0 : ENOSPC};
  const auto add = [&info](std::span<const std::byte> bytes) {
    info.bytes.insert(info.bytes.end(), bytes.begin(), bytes.end());
  };
  add(std::as_bytes(std::span(&*header, 1)));
  if (fits)
    add(std::as_bytes(std::span(*affected)));
  return info;
}

Result<void> hot_reset(const Caller &caller, const Fd &device, ClientAddr argument) {
  const auto header = read_header(caller, argument);
  if (!header)
    return pass_on(header);
  if (header->flags != 0 || header->count == 0)
    return fail(EINVAL, "flags, or no group");
  const auto affected = affected_by_reset(device);
  if (!affected)
    return pass_on(affected);
  if (header->count > affected->size())
    return fail(EINVAL, "more groups than devices");
  const auto groups = named_groups(caller, argument + Bytes{sizeof(Header)}, header->count);
  if (!groups)
    return pass_on(groups);
  for (const vfio_pci_dependent_device &one : *affected)
    if (!groups->contains(one.group_id))
      return fail(EINVAL, fmt::format("group {} is affected, too", one.group_id));

  Header by_ownership{.argsz = sizeof(Header)};
  if (::ioctl(device.get(), VFIO_DEVICE_PCI_HOT_RESET, &by_ownership) != 0)
    return fail_errno("VFIO_DEVICE_PCI_HOT_RESET");
  return {};
}

} // namespace vfio_shim::supervise
