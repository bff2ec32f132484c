// SPDX-License-Identifier: MIT
#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace vfio_shim {

namespace {

bool is_printable(char byte) {
  return byte >= ' ' && byte <= '~';
}

} // namespace

std::string printable(std::string_view text) {
  std::string safe{text};
  std::ranges::replace_if(
      safe, [](char byte) { return !is_printable(byte); }, '?');
  return safe;
}

std::string escaped(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  for (const char byte : text)
    if (is_printable(byte))
      safe += byte;
    else
      fmt::format_to(std::back_inserter(safe), "\\x{:02x}", static_cast<unsigned char>(byte));
  return safe;
}

std::string quoted_name(std::string_view text) {
  constexpr std::size_t longest = 64;
  return '\'' + printable(text.substr(0, longest)) + (text.size() > longest ? "...'" : "'");
}

} // namespace vfio_shim
