// SPDX-License-Identifier: MIT
/// @file
/// What the kernel's and the system's small files say. What cannot be read says nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim::cli::doctor {

bool is_there(const std::filesystem::path &path);

/// All of a file.
std::string text_of(const std::filesystem::path &path);

/// Without its end.
std::string first_line(const std::filesystem::path &path);

/// What follows @p name on the first line that begins with it, split at blanks.
std::vector<std::string> fields_of(const std::filesystem::path &path, std::string_view name);

/// All of a file, split at blanks and line ends.
std::vector<std::string> words_of(const std::filesystem::path &path);

/// The names in a directory, in order.
std::vector<std::string> names_in(const std::filesystem::path &directory);

/// The last component of what a link points to: "" if it is no link.
std::string link_target_name(const std::filesystem::path &link);

/// A number that is the whole text.
std::optional<std::uint64_t> number(std::string_view text, int base = 10);

} // namespace vfio_shim::cli::doctor
