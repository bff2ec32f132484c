// SPDX-License-Identifier: MIT
#include "cli/help_format.hpp"

#include "cli/terminal.hpp"

#include <algorithm>

#include <unistd.h>

namespace vfio_shim::cli {

namespace {

/// Where in a line its words begin that may move to the next line, and where they continue there.
struct Column {
  std::size_t begin = 0;
  std::size_t indent = 0;
};

Column last_column(std::string_view line, std::size_t width) {
  const auto first = std::min(line.find_first_not_of(' '), line.size());
  // CLI11 puts names here; what begins elsewhere is text.
  constexpr std::size_t names = 2;
  const Column only{.begin = first, .indent = first == names ? 2 * names : first};
  const auto gap = line.find("  ", first);
  const auto second = line.find_first_not_of(' ', gap);
  if (gap == std::string_view::npos || second == std::string_view::npos || second > width / 2)
    return only;
  return {.begin = second, .indent = second};
}

std::string wrapped_line(std::string_view line, std::size_t width) {
  if (line.size() <= width)
    return std::string(line);
  const Column column = last_column(line, width);
  std::string text(line.substr(0, column.begin));
  std::size_t used = text.size();
  bool first = true;
  for (auto rest = line.substr(column.begin); !rest.empty();) {
    const auto word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    if (!first && used + 1 + word.size() > width) {
      text.erase(text.find_last_not_of(' ') + 1);
      text += '\n' + std::string(column.indent, ' ');
      used = column.indent;
    } else if (!first) {
      text += ' ';
      ++used;
    }
    text += word;
    used += word.size();
    first = false;
  }
  return text;
}

} // namespace

std::string wrapped(std::string_view text, std::size_t width) {
  std::string all;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    all += wrapped_line(line, width);
    text.remove_prefix(line.size());
    if (!text.empty()) {
      all += '\n';
      text.remove_prefix(1);
    }
  }
  return all;
}

std::string HelpFormatter::make_help(const CLI::App *app, std::string name,
                                     CLI::AppFormatMode mode) const {
  std::string help = Formatter::make_help(app, std::move(name), mode);
  const auto width = line_width(STDOUT_FILENO);
  return width ? wrapped(help, *width) : help;
}

} // namespace vfio_shim::cli
