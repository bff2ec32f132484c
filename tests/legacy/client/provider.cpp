// SPDX-License-Identifier: MIT
#include "provider.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace legacy {
namespace {

// The kernel's own container node is a misc device with a number of its own.
constexpr unsigned misc_major = 10;
constexpr unsigned vfio_minor = 196;

std::optional<dev_t> character_device(const std::string &path) {
  struct stat node {};
  if (::stat(path.c_str(), &node) != 0 || !S_ISCHR(node.st_mode))
    return std::nullopt;
  return node.st_rdev;
}

bool is_kernels_container(dev_t device) {
  return major(device) == misc_major && minor(device) == vfio_minor;
}

// The class of the kernel's group nodes; absent when VFIO_GROUP=n.
bool kernel_has_groups() {
  return std::filesystem::exists("/sys/class/vfio");
}

constexpr const char *prefix_beside_the_kernels = "/dev/vfio-shim";

std::string default_shim_prefix() {
  return std::filesystem::exists("/dev/vfio-shim/vfio") ? prefix_beside_the_kernels : "/dev/vfio";
}

std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// Removes `option` and its value from the command line; empty when it is not there.
std::string take_option(int &argc, char **argv, std::string_view option) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word{argv[i]};
    if (!word.starts_with(option))
      continue;
    const std::string_view rest = word.substr(option.size());
    const bool joined = rest.starts_with('=');
    if (!joined && (!rest.empty() || i + 1 >= argc))
      continue;
    const std::string value{joined ? rest.substr(1) : std::string_view{argv[i + 1]}};
    const int words = joined ? 1 : 2;
    std::copy(argv + i + words, argv + argc + 1, argv + i);
    argc -= words;
    return value;
  }
  return "";
}

std::vector<std::string> split(const std::string &names) {
  std::vector<std::string> parts;
  std::istringstream in{names};
  for (std::string part; std::getline(in, part, ',');)
    if (!part.empty())
      parts.push_back(part);
  return parts;
}

} // namespace

std::string Provider::group_path(GroupId group) const {
  return groups + "/" + std::to_string(static_cast<int>(group));
}

std::string Provider::identifier() const {
  std::string identifier = name;
  std::replace(identifier.begin(), identifier.end(), '-', '_');
  return identifier;
}

bool Provider::is_shim() const {
  return name.starts_with(providers::shim);
}

std::ostream &operator<<(std::ostream &out, const Provider &provider) {
  return out << provider.name;
}

ProviderSelection ProviderSelection::take_from(int &argc, char **argv) {
  ProviderSelection selection{take_option(argc, argv, "--providers"),
                              take_option(argc, argv, "--shim-prefix")};
  if (selection.names.empty())
    selection.names = environment("VFIO_LEGACY_PROVIDERS");
  if (selection.shim_prefix.empty())
    selection.shim_prefix = environment("VFIO_LEGACY_SHIM_PREFIX");
  return selection;
}

std::vector<Provider> known_providers(const ProviderSelection &selection) {
  const std::string prefix =
      selection.shim_prefix.empty() ? default_shim_prefix() : selection.shim_prefix;
  const std::string on_backend =
      (selection.shim_prefix.empty() ? std::string{prefix_beside_the_kernels}
                                     : selection.shim_prefix) +
      ".";
  return {
      {providers::type1, "/dev/vfio/vfio", "/dev/vfio", "the kernel's vfio_iommu_type1"},
      {providers::kernel_compat, "/dev/iommu", "/dev/vfio", "the kernel's iommufd vfio_compat"},
      {providers::shim, prefix + "/vfio", prefix, "vfio-shim, through CUSE"},
      {providers::shim_type1, on_backend + "type1/vfio", on_backend + "type1",
       "vfio-shim on the kernel's type1"},
      {providers::shim_kernel_compat, on_backend + "kernel-compat/vfio",
       on_backend + "kernel-compat", "vfio-shim on the kernel's vfio_compat"},
      {providers::shim_express, on_backend + "express/vfio", on_backend + "express",
       "vfio-shim --express"},
  };
}

std::optional<std::string> missing(const Provider &provider) {
  const auto container = character_device(provider.container);
  if (!container)
    return "no character device at " + provider.container;
  const bool kernels = is_kernels_container(*container);
  if (provider.name == providers::type1 && !kernels)
    return provider.container + " is not the kernel's";
  if (provider.is_shim() && kernels)
    return provider.container + " is the kernel's own (give --shim-prefix)";
  if (!provider.is_shim() && !kernel_has_groups())
    return "this kernel has no VFIO groups (VFIO_GROUP=n)";
  return std::nullopt;
}

std::vector<Provider> select_providers(const ProviderSelection &selection) {
  const std::vector<Provider> known = known_providers(selection);
  std::vector<Provider> chosen;
  if (selection.names.empty()) {
    std::copy_if(known.begin(), known.end(), std::back_inserter(chosen),
                 [](const Provider &provider) { return !missing(provider); });
    if (chosen.empty())
      throw std::runtime_error{"no provider of the legacy VFIO API on this machine"};
    return chosen;
  }
  for (const std::string &name : split(selection.names)) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const Provider &provider) {
      return provider.name == name;
    });
    if (found == known.end())
      throw std::runtime_error{"no provider is called '" + name +
                               "' (there are type1, kernel-compat, shim, shim-type1, "
                               "shim-kernel-compat and shim-express)"};
    if (const auto why = missing(*found))
      throw std::runtime_error{"provider " + name + " was asked for but is not here: " + *why};
    chosen.push_back(*found);
  }
  return chosen;
}

} // namespace legacy
