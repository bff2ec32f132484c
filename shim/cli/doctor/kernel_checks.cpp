// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/distribution.hpp"
#include "cli/doctor/system_files.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace vfio_shim::cli::doctor {

namespace {

namespace fs = std::filesystem;
using Setting = KernelConfig::Setting;

/// A misc device that a driver makes.
struct DriverNode {
  std::string_view name; ///< Below /dev, and in /proc/misc.
  std::string_view module;
  std::string_view option; ///< Without CONFIG_.
};

constexpr DriverNode cuse_node{.name = "cuse", .module = "cuse", .option = "CUSE"};
constexpr DriverNode iommu_node{.name = "iommu", .module = "iommufd", .option = "IOMMUFD"};

/// The minor number of a misc device whose driver is there.
std::optional<std::string> misc_minor(const Machine &machine, std::string_view name) {
  const auto words = words_of(machine.roots.proc / "misc");
  for (std::size_t index = 0; index + 1 < words.size(); index += 2)
    if (words[index + 1] == name)
      return words[index];
  return std::nullopt;
}

/// For a node that is not there, or whose driver is not.
Finding no_driver_node(const Machine &machine, const DriverNode &node, std::string found) {
  const std::string subject = fmt::format("/dev/{}", node.name);
  if (const auto minor = misc_minor(machine, node.name))
    return missing(subject, found + ", though the kernel has its driver",
                   fmt::format("mknod -m 600 {} c 10 {}", subject, *minor));
  switch (machine.config.of(node.option)) {
  case Setting::off:
    return missing(subject, fmt::format("{}: the kernel was built without it", found),
                   node.option == iommu_node.option ? kernel_with_iommufd(machine, node.option)
                                                    : rebuild_with(node.option));
  case Setting::module:
  case Setting::built_in:
    break;
  case Setting::unknown:
    found += fmt::format(" (a kernel without CONFIG_{} cannot have it)", node.option);
    break;
  }
  return missing(subject, std::move(found), fmt::format("modprobe {}", node.module));
}

Finding check_driver_node(const Machine &machine, const DriverNode &node) {
  const std::string subject = fmt::format("/dev/{}", node.name);
  // Opening, not looking: a node may be there before its module is, and a cgroup may forbid it.
  const Fd opened{::open((machine.roots.kernel.dev / node.name).c_str(), O_RDWR | O_CLOEXEC)};
  if (opened)
    return ok(subject, "can be opened");
  switch (errno) {
  case ENOENT:
    return no_driver_node(machine, node, "is not there");
  case ENODEV:
  case ENXIO:
    return no_driver_node(machine, node, "is there, but not its driver");
  case EACCES:
  case EPERM:
    return missing(
        subject, "may not be opened",
        ::geteuid() != 0
            ? "sudo vfio-shim doctor"
            : fmt::format("allow it to this container (docker run --device {})", subject));
  default:
    return missing(subject, fmt::format("cannot be opened: {}", errno_name(errno)),
                   fmt::format("dmesg | grep -i {}", node.module));
  }
}

bool command_line_has(const Machine &machine, std::string_view argument) {
  const auto words = words_of(machine.roots.proc / "cmdline");
  return std::ranges::find(words, argument) != words.end();
}

/// "intel_iommu=on,sm_on" has "on".
bool argument_includes(const Machine &machine, std::string_view name, std::string_view value) {
  for (const std::string &word : words_of(machine.roots.proc / "cmdline")) {
    if (!word.starts_with(name) || word.size() <= name.size() || word[name.size()] != '=')
      continue;
    std::istringstream values(word.substr(name.size() + 1));
    for (std::string one; std::getline(values, one, ',');)
      if (one == value)
        return true;
  }
  return false;
}

/// A vendor's IOMMU on x86.
struct IommuKind {
  std::string_view table; ///< ACPI's, by which the firmware tells that there is one.
  std::string_view name;
  std::string_view option;   ///< Without CONFIG_.
  std::string_view argument; ///< On the kernel command line.
  bool on_by_default;
};

constexpr std::array<IommuKind, 2> iommu_kinds = {{
    {.table = "DMAR",
     .name = "Intel VT-d",
     .option = "INTEL_IOMMU",
     .argument = "intel_iommu",
     .on_by_default = false},
    {.table = "IVRS",
     .name = "AMD-Vi",
     .option = "AMD_IOMMU",
     .argument = "amd_iommu",
     .on_by_default = true},
}};

Finding unused_iommu(const Machine &machine, const IommuKind &kind) {
  const std::string found = fmt::format("off, though the machine has one ({})", kind.name);
  if (machine.config.of(kind.option) == Setting::off)
    return missing("IOMMU", found, rebuild_with(kind.option));
  if (argument_includes(machine, kind.argument, "off"))
    return missing("IOMMU", found, kernel_argument(fmt::format("take {}=off off", kind.argument)));
  if (command_line_has(machine, "iommu=off"))
    return missing("IOMMU", found, kernel_argument("take iommu=off off"));
  if (!kind.on_by_default && !argument_includes(machine, kind.argument, "on"))
    return missing("IOMMU", found, kernel_argument(fmt::format("add {}=on to", kind.argument)));
  return missing("IOMMU", found, "dmesg | grep -e DMAR -e AMD-Vi -e IOMMU  (it says why)");
}

/// A feature that a kernel has from some version on, and perhaps by an option.
Finding check_feature(const Machine &machine, std::string subject, KernelVersion since,
                      std::string_view option, std::string present, std::string absent) {
  if (KernelVersion::parse(machine.release) < since)
    return note(std::move(subject), std::move(absent),
                fmt::format("use Linux {}.{} or later", since.major, since.minor));
  if (option.empty() || machine.config.of(option) == Setting::built_in)
    return ok(std::move(subject), std::move(present));
  if (machine.config.of(option) == Setting::unknown)
    return note(std::move(subject), fmt::format("cannot tell: depends on CONFIG_{}", option));
  return note(std::move(subject), std::move(absent), rebuild_with(option));
}

} // namespace

Finding check_kernel(const Machine &machine) {
  const std::string subject = "kernel";
  constexpr KernelVersion first_with_cdev{.major = 6, .minor = 6};
  const std::string distribution = distribution_name(machine);
  const std::string name = fmt::format("Linux {}{}{}", machine.release,
                                       distribution.empty() ? "" : " on ", distribution);
  // Some distributions have brought it to kernels with older numbers.
  const bool brought_back = machine.config.of("VFIO_DEVICE_CDEV") == Setting::built_in;
  if (KernelVersion::parse(machine.release) < first_with_cdev && !brought_back)
    return missing(subject, fmt::format("{}: too old for VFIO cdevs, which came with 6.6", name),
                   kernel_with_iommufd(machine));
  if (machine.config.source().empty())
    return note(subject, fmt::format("{}; how it was built is unknown", name));
  return ok(subject, fmt::format("{}, configuration in {}", name, machine.config.source()));
}

Finding check_cuse(const Machine &machine) {
  return check_driver_node(machine, cuse_node);
}

Finding check_iommufd(const Machine &machine) {
  return check_driver_node(machine, iommu_node);
}

Finding check_iommu(const Machine &machine) {
  const auto groups = names_in(machine.roots.kernel.sys / "kernel/iommu_groups");
  if (!groups.empty())
    return ok("IOMMU", fmt::format("on, {} groups of devices", groups.size()));
  const fs::path tables = machine.roots.kernel.sys / "firmware/acpi/tables";
  for (const IommuKind &kind : iommu_kinds)
    if (is_there(tables / kind.table))
      return unused_iommu(machine, kind);
  return missing("IOMMU", "none: no device has an IOMMU group",
                 "turn VT-d, AMD-Vi or SMMU on in the firmware's set-up; in a virtual machine, add "
                 "one (QEMU: -device intel-iommu,intremap=on)");
}

Finding check_interrupt_remapping(const Machine &machine) {
  const std::string subject = "interrupt remapping";
  if (names_in(machine.roots.kernel.sys / "kernel/iommu_groups").empty())
    return note(subject, "none without an IOMMU");
  const std::string interrupts = text_of(machine.roots.proc / "interrupts");
  if (interrupts.find(" IR-") != std::string::npos)
    return ok(subject, "on");
  const fs::path parameter =
      machine.roots.kernel.sys / "module/iommufd/parameters/allow_unsafe_interrupts";
  if (first_line(parameter) == "Y")
    return note(subject, "not seen, but iommufd is told to do without (allow_unsafe_interrupts)");
  if (interrupts.find("IO-APIC") == std::string::npos)
    return note(subject, "cannot tell on this machine");
  if (argument_includes(machine, "intremap", "off") || command_line_has(machine, "nointremap"))
    return note(subject, "off: the kernel will refuse to attach devices",
                kernel_argument("take intremap=off off"));
  return note(subject, "not seen: the kernel may refuse to attach devices",
              "echo 1 > /sys/module/iommufd/parameters/allow_unsafe_interrupts  (if you trust the "
              "clients)");
}

Finding check_map_file(const Machine &machine) {
  return check_feature(machine, "shared memory", {.major = 6, .minor = 13}, "",
                       "is mapped by file (IOMMU_IOAS_MAP_FILE)",
                       "is mapped by borrowing the client: slower (no IOMMU_IOAS_MAP_FILE)");
}

Finding check_bar_mapping(const Machine &machine) {
  return check_feature(machine, "BAR mapping", {.major = 6, .minor = 19}, "VFIO_PCI_DMABUF",
                       "device BARs can be DMA targets (dma-buf)",
                       "device BARs cannot be DMA targets (no dma-buf)");
}

} // namespace vfio_shim::cli::doctor
