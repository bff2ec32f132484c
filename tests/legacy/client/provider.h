// SPDX-License-Identifier: MIT
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "units.h"

namespace legacy {

/// One implementation of the legacy API: where its nodes are, and what it is.
struct Provider {
  /// "type1", "kernel-compat", "shim", or "shim-type1", "shim-kernel-compat": on that backend;
  /// "shim-express": with clients that map by themselves.
  std::string name;
  /// The container node, e.g. /dev/vfio/vfio.
  std::string container;
  /// The directory of the group nodes, e.g. /dev/vfio.
  std::string groups;
  /// What serves it, in words.
  std::string notes;

  /// Whether it is the shim, on whatever backend.
  bool is_shim() const;
  std::string group_path(GroupId group) const;
  /// The name as part of a C++ identifier: "kernel_compat".
  std::string identifier() const;

  friend std::ostream &operator<<(std::ostream &out, const Provider &provider);
};

namespace providers {

inline constexpr const char *type1 = "type1";
inline constexpr const char *kernel_compat = "kernel-compat";
inline constexpr const char *shim = "shim";
inline constexpr const char *shim_type1 = "shim-type1";
inline constexpr const char *shim_kernel_compat = "shim-kernel-compat";
inline constexpr const char *shim_express = "shim-express";

} // namespace providers

/// What the user asked to run against.
struct ProviderSelection {
  /// Names separated by commas; empty: every provider that is on this machine.
  std::string names;
  /// The directory of the shim's nodes; empty: /dev/vfio-shim if it exists, else /dev/vfio. With
  /// another backend than iommufd they are in DIRECTORY.BACKEND.
  std::string shim_prefix;

  /// Takes `--providers=` and `--shim-prefix=` (or the option and its value as two words) out of
  /// the command line; what is not there is read from VFIO_LEGACY_PROVIDERS and
  /// VFIO_LEGACY_SHIM_PREFIX.
  static ProviderSelection take_from(int &argc, char **argv);
};

/// Every provider there is, whether or not this machine has it, in the order of comparison.
std::vector<Provider> known_providers(const ProviderSelection &selection);

/// Why `provider` cannot be used on this machine; nothing when it can.
std::optional<std::string> missing(const Provider &provider);

/// The providers to run. Throws std::runtime_error when one is asked for by name that does not
/// exist or is not on this machine, and when there is none at all.
std::vector<Provider> select_providers(const ProviderSelection &selection);

} // namespace legacy
