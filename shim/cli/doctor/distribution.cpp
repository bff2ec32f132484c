// SPDX-License-Identifier: MIT
#include "cli/doctor/distribution.hpp"

#include "cli/doctor/finding.hpp"
#include "cli/doctor/system_files.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <vector>

#include <fmt/format.h>

namespace vfio_shim::cli::doctor {

namespace {

/// The value of a key in /etc/os-release, without its quotes.
std::string os_release(const Machine &machine, std::string_view key) {
  std::istringstream lines(text_of(machine.roots.etc / "os-release"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != '=')
      continue;
    std::string value = line.substr(key.size() + 1);
    std::erase(value, '"');
    return value;
  }
  return {};
}

/// Its own name, and those of the distributions that it is made from.
std::vector<std::string> families(const Machine &machine) {
  std::istringstream words(os_release(machine, "ID") + ' ' + os_release(machine, "ID_LIKE"));
  std::vector<std::string> names;
  for (std::string name; words >> name;)
    names.push_back(name);
  return names;
}

struct Kernels {
  std::string_view family; ///< As in ID or ID_LIKE.
  std::string_view remedy;
};

// What the distributions' configurations say: Debian's linux-config packages from 6.12 to 7.3 and
// openSUSE's of 6.19 have CONFIG_IOMMUFD off. Red Hat's have CONFIG_VFIO_DEVICE_CDEV on, also in
// kernels with older numbers. Ubuntu's have it from 6.8 on, the kernel of 24.04.
constexpr std::array<Kernels, 5> known_kernels = {{
    {.family = "ubuntu",
     .remedy = "use a kernel of Ubuntu 24.04 or later; on 22.04: apt install "
               "linux-generic-hwe-22.04, and reboot"},
    {.family = "debian",
     .remedy = "build one: apt install linux-source, and there scripts/config --enable IOMMUFD "
               "--enable VFIO_DEVICE_CDEV && make olddefconfig bindeb-pkg (Debian's own, backports "
               "included, are built without)"},
    {.family = "fedora", .remedy = "dnf upgrade kernel, and reboot (Fedora's own have it)"},
    {.family = "rhel",
     .remedy = "dnf upgrade kernel, and reboot (later ones of Enterprise Linux 9 and 10 have it)"},
    {.family = "suse",
     .remedy = "build one: zypper install kernel-source, and there scripts/config --enable IOMMUFD "
               "--enable VFIO_DEVICE_CDEV && make olddefconfig binrpm-pkg (SUSE's own are built "
               "without)"},
}};

} // namespace

std::string distribution_name(const Machine &machine) {
  return os_release(machine, "PRETTY_NAME");
}

std::string kernel_with_iommufd(const Machine &machine, std::string_view option) {
  for (const std::string &name : families(machine))
    for (const auto &[family, remedy] : known_kernels)
      if (name == family || (family == "suse" && name.starts_with("opensuse")))
        return std::string(remedy);
  return option.empty() ? "use Linux 6.6 or later" : rebuild_with(option);
}

} // namespace vfio_shim::cli::doctor
