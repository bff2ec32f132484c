// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/distribution.hpp"
#include "cli/doctor/system_files.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli::doctor {

namespace {

namespace fs = std::filesystem;
using Setting = KernelConfig::Setting;

/// A PCI device that could be given to vfio-pci.
struct Candidate {
  std::string name;
  std::string driver; ///< "" for none.
};

/// The base class that a PCI device says it is of; 0 if it says nothing.
std::uint64_t pci_base_class(const fs::path &device) {
  const std::string text = first_line(device / "class"); // "0x010802"
  return text.starts_with("0x") ? number(text.substr(2), 16).value_or(0) >> 16U : 0;
}

constexpr std::uint64_t class_storage = 0x01;
constexpr std::uint64_t class_display = 0x03;
constexpr std::uint64_t class_bridge = 0x06;
constexpr std::uint64_t class_system = 0x08;
constexpr std::uint64_t class_serial_bus = 0x0c;

/// Whether a machine can be expected to run on without such a device.
bool may_be_spared(std::uint64_t base_class, bool has_driver) {
  if (base_class == class_bridge || base_class == class_system)
    return false;
  return !has_driver || (base_class != class_storage && base_class != class_display &&
                         base_class != class_serial_bus);
}

/// One that nothing uses, or else one that the machine can do without.
std::optional<Candidate> example_device(const Machine &machine) {
  const fs::path devices = machine.roots.kernel.sys / "bus/pci/devices";
  std::optional<Candidate> in_use;
  for (const std::string &name : names_in(devices)) {
    const std::string driver = link_target_name(devices / name / "driver");
    if (!is_there(devices / name / "iommu_group") ||
        !may_be_spared(pci_base_class(devices / name), !driver.empty()))
      continue;
    if (driver.empty())
      return Candidate{.name = name, .driver = {}};
    if (!in_use)
      in_use = Candidate{.name = name, .driver = driver};
  }
  return in_use;
}

std::string binding_command(const Machine &machine, const Candidate &device) {
  if (is_there(machine.roots.sbin / "driverctl"))
    return fmt::format("driverctl set-override {} vfio-pci", device.name);
  std::string command;
  if (!is_there(machine.roots.kernel.sys / "bus/pci/drivers/vfio-pci"))
    command = "modprobe vfio-pci && ";
  command +=
      fmt::format("echo vfio-pci > /sys/bus/pci/devices/{}/driver_override && ", device.name);
  if (!device.driver.empty())
    command += fmt::format("echo {0} > /sys/bus/pci/devices/{0}/driver/unbind && ", device.name);
  return command + fmt::format("echo {} > /sys/bus/pci/drivers_probe", device.name);
}

/// The devices of a group that host drivers have. Bridges do not count: nobody would give them
/// away.
std::vector<Candidate> devices_of_host(const Machine &machine, GroupId group) {
  const fs::path devices =
      machine.roots.kernel.sys / "kernel/iommu_groups" / std::to_string(group.value) / "devices";
  std::vector<Candidate> of_host;
  for (const std::string &name : names_in(devices)) {
    const std::string driver = link_target_name(devices / name / "driver");
    if (!driver.empty() && !is_there(devices / name / "vfio-dev") &&
        pci_base_class(devices / name) != class_bridge)
      of_host.push_back({.name = name, .driver = driver});
  }
  return of_host;
}

/// For a group that cannot be used.
Finding not_viable(const Machine &machine, std::string subject, GroupId group) {
  std::vector<std::string> names;
  const auto of_host = devices_of_host(machine, group);
  names.reserve(of_host.size());
  for (const Candidate &device : of_host)
    names.push_back(fmt::format("{} ({})", device.name, device.driver));
  return note(std::move(subject),
              fmt::format("group {} cannot be used while host drivers have devices of it: {}",
                          group.value, fmt::join(names, ", ")),
              of_host.empty() ? "" : binding_command(machine, of_host.front()));
}

} // namespace

Finding check_cdev(const Machine &machine) {
  const std::string subject = "VFIO cdevs";
  const fs::path entries = machine.roots.kernel.sys / "class/vfio-dev";
  const auto devices = names_in(entries);
  const bool any_cdev = std::ranges::any_of(
      devices, [&](const std::string &name) { return is_there(entries / name / "dev"); });
  if (any_cdev)
    return ok(subject, "the kernel makes them");
  const Setting setting = machine.config.of("VFIO_DEVICE_CDEV");
  if (setting == Setting::off || !devices.empty())
    return missing(subject, "the kernel makes none",
                   kernel_with_iommufd(machine, "VFIO_DEVICE_CDEV"));
  if (!is_there(entries))
    return missing(subject, "VFIO is not loaded", "modprobe vfio-pci");
  if (setting == Setting::unknown)
    return note(subject,
                "cannot tell before a device is bound: depends on CONFIG_VFIO_DEVICE_CDEV");
  return ok(subject, "the kernel can make them");
}

Finding check_devices(const Machine &machine) {
  const std::string subject = "devices";
  std::vector<std::string> bound;
  for (const topology::Group &group : topology::scan(machine.roots.kernel))
    for (const topology::Device &device : group.devices)
      bound.push_back(fmt::format("{} (group {})", device.name, group.id.value));
  if (!bound.empty())
    return ok(subject, fmt::format("{}", fmt::join(bound, ", ")));
  if (machine.config.of("VFIO_PCI") == Setting::off)
    return missing(subject, "none is bound to vfio-pci: the kernel was built without it",
                   rebuild_with("VFIO_PCI"));
  const auto example = example_device(machine);
  if (!example)
    return missing(subject, "none is bound to vfio-pci, and none is there that could be",
                   "mend the IOMMU first, or add a PCI device");
  return missing(subject,
                 fmt::format("none is bound to vfio-pci; {}, for example, {}", example->name,
                             example->driver.empty()
                                 ? "has no driver"
                                 : fmt::format("could be taken from {}", example->driver)),
                 binding_command(machine, *example));
}

Finding check_kinds(const Machine &machine) {
  const std::string subject = "kinds of devices";
  const fs::path entries = machine.roots.kernel.sys / "class/vfio-dev";
  for (const std::string &entry : names_in(entries)) {
    const fs::path device = entries / entry / "device";
    const std::string name = link_target_name(device);
    if (link_target_name(device / "subsystem") == "mdev")
      return note(subject,
                  fmt::format("{} is a mediated device (a vGPU, for example): vfio-shim cannot "
                              "serve these on iommufd yet",
                              name));
    if (is_there(device / "physfn/vfio-dev"))
      return note(subject,
                  fmt::format("{} is a virtual function, and its physical function {} is bound to "
                              "vfio-pci: the kernel wants a VF token, which vfio-shim cannot give "
                              "yet",
                              name, link_target_name(device / "physfn")),
                  "bind the physical function to its host driver");
  }
  return ok(subject, "none that cannot be served");
}

Finding check_viability(const Machine &machine) {
  const std::string subject = "groups";
  const auto groups = topology::scan(machine.roots.kernel);
  for (const topology::Group &group : groups)
    if (!topology::viable(group.id, machine.roots.kernel).value_or(true))
      return not_viable(machine, subject, group.id);
  if (groups.empty())
    return note(subject, "none yet: they come with the devices");
  return ok(subject, fmt::format("{} to serve, all of them usable", groups.size()));
}

Finding check_nodes(const Machine &machine, const std::string &prefix) {
  const std::string subject = "legacy nodes";
  const std::string served = prefix.empty() ? daemon::default_prefix(machine.roots.kernel) : prefix;
  if (!daemon::kernel_has_legacy_nodes(machine.roots.kernel))
    return ok(subject, fmt::format("the kernel has none; `serve` makes them in /dev/{}", served));
  if (daemon::is_taken_over(machine.roots.kernel))
    return ok(subject,
              fmt::format("a daemon has taken the place of {}the kernel's own in /dev/vfio",
                          daemon::shares_with_kernel(machine.roots.kernel) ? "some of " : ""));
  if (served == "vfio")
    return missing(
        subject, "the kernel has its own in /dev/vfio",
        fmt::format("vfio-shim serve --prefix {}", daemon::default_prefix(machine.roots.kernel)));
  return note(subject, fmt::format("the kernel has its own in /dev/vfio; `serve` uses /dev/{}, and "
                                   "`run` shows that to its command as /dev/vfio; `serve "
                                   "--take-over` takes their place",
                                   served));
}

} // namespace vfio_shim::cli::doctor
