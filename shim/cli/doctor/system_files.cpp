// SPDX-License-Identifier: MIT
#include "cli/doctor/system_files.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>

namespace vfio_shim::cli::doctor {

namespace fs = std::filesystem;

bool is_there(const fs::path &path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::string text_of(const fs::path &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf(); // It catches what the buffer throws for files that can be opened, not read.
  return text.str();
}

std::string first_line(const fs::path &path) {
  const std::string text = text_of(path);
  return text.substr(0, text.find('\n'));
}

std::vector<std::string> fields_of(const fs::path &path, std::string_view name) {
  std::istringstream lines(text_of(path));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name)) {
      std::istringstream fields(line.substr(name.size()));
      return {std::istream_iterator<std::string>(fields), {}};
    }
  return {};
}

std::vector<std::string> words_of(const fs::path &path) {
  std::istringstream words(text_of(path));
  return {std::istream_iterator<std::string>(words), {}};
}

std::vector<std::string> names_in(const fs::path &directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::ranges::sort(names);
  return names;
}

std::string link_target_name(const fs::path &link) {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  return error ? std::string{} : target.filename().string();
}

std::optional<std::uint64_t> number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

} // namespace vfio_shim::cli::doctor
