// SPDX-License-Identifier: MIT
#include "cli/terminal.hpp"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include <sys/ioctl.h>
#include <unistd.h>

namespace vfio_shim::cli {

namespace {

std::string_view environment(const char *name) {
  const char *value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::optional<std::size_t> positive_number(std::string_view text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number == 0)
    return std::nullopt;
  return number;
}

} // namespace

bool takes_colours(int file) {
  return ::isatty(file) != 0 && environment("NO_COLOR").empty();
}

std::optional<std::size_t> line_width(int file) {
  if (const auto columns = positive_number(environment("COLUMNS")))
    return columns;
  winsize size{};
  if (::ioctl(file, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return std::nullopt;
  return size.ws_col;
}

} // namespace vfio_shim::cli
