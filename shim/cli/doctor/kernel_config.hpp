// SPDX-License-Identifier: MIT
/// @file
/// What the running kernel was built with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace vfio_shim::cli::doctor {

/// The answers to "is CONFIG_X set?", if the kernel or its package tells.
class KernelConfig {
public:
  enum class Setting : std::uint8_t { unknown, off, module, built_in };

  /// Nothing is known.
  KernelConfig() = default;

  /// Reads /proc/config.gz, or else /boot/config-RELEASE.
  static KernelConfig load(const std::filesystem::path &proc, const std::filesystem::path &boot,
                           std::string_view release);

  /// @param option Without its "CONFIG_".
  Setting of(std::string_view option) const;

  /// Where it was read; "" if nothing is known.
  const std::string &source() const { return source_; }

private:
  static std::optional<KernelConfig> read(const std::filesystem::path &file);

  std::string source_;
  std::map<std::string, Setting, std::less<>> settings_; ///< Those that are on.
};

/// A kernel's version as far as features go: "7.2.13-vfio-shim" is 7.2.
struct KernelVersion {
  unsigned int major = 0;
  unsigned int minor = 0;

  static KernelVersion parse(std::string_view release);
  friend constexpr auto operator<=>(const KernelVersion &, const KernelVersion &) = default;
};

} // namespace vfio_shim::cli::doctor
