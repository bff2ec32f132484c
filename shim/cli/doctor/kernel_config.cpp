// SPDX-License-Identifier: MIT
#include "cli/doctor/kernel_config.hpp"

#include <array>
#include <charconv>
#include <sstream>

#include <zlib.h>

namespace vfio_shim::cli::doctor {

namespace {

/// The text of a file that may be compressed.
std::optional<std::string> read_text(const std::filesystem::path &path) {
  gzFile file = ::gzopen(path.c_str(), "rbe");
  if (file == nullptr)
    return std::nullopt;
  std::string text;
  std::array<char, 16384> buffer{};
  int count = 0;
  while ((count = ::gzread(file, buffer.data(), buffer.size())) > 0)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  ::gzclose(file);
  if (count < 0)
    return std::nullopt;
  return text;
}

} // namespace

KernelConfig KernelConfig::load(const std::filesystem::path &proc,
                                const std::filesystem::path &boot, std::string_view release) {
  for (const auto &file : {proc / "config.gz", boot / ("config-" + std::string(release))})
    if (auto config = read(file))
      return *std::move(config);
  return {};
}

std::optional<KernelConfig> KernelConfig::read(const std::filesystem::path &file) {
  const auto text = read_text(file);
  if (!text)
    return std::nullopt;
  KernelConfig config;
  config.source_ = file;
  std::istringstream lines(*text);
  constexpr std::string_view start = "CONFIG_";
  for (std::string line; std::getline(lines, line);) {
    const auto equals = line.find('=');
    if (!line.starts_with(start) || equals == std::string::npos)
      continue;
    config.settings_.emplace(line.substr(start.size(), equals - start.size()),
                             line.substr(equals + 1) == "m" ? Setting::module : Setting::built_in);
  }
  return config;
}

KernelConfig::Setting KernelConfig::of(std::string_view option) const {
  if (source_.empty())
    return Setting::unknown;
  const auto setting = settings_.find(option);
  return setting != settings_.end() ? setting->second : Setting::off;
}

KernelVersion KernelVersion::parse(std::string_view release) {
  KernelVersion version;
  const char *const end = release.data() + release.size();
  const auto [dot, error] = std::from_chars(release.data(), end, version.major);
  if (error == std::errc{} && dot != end)
    std::from_chars(dot + 1, end, version.minor);
  return version;
}

} // namespace vfio_shim::cli::doctor
