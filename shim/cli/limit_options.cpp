// SPDX-License-Identifier: MIT
#include "cli/limit_options.hpp"

#include <charconv>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

namespace vfio_shim::cli {

namespace {

bool parse_number(std::string_view text, std::uint64_t &number) {
  const bool hexadecimal = text.starts_with("0x");
  if (hexadecimal)
    text.remove_prefix(2);
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, hexadecimal ? 16 : 10);
  return error == std::errc{} && end == text.data() + text.size();
}

} // namespace

Result<IovaRange> parse_iova_window(const std::string &text) {
  const std::size_t dash = text.find('-');
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  if (dash == std::string::npos || !parse_number(std::string_view(text).substr(0, dash), first) ||
      !parse_number(std::string_view(text).substr(dash + 1), last))
    return fail(EINVAL, fmt::format("not START-END in hexadecimal (0x...) or decimal: {}", text));
  if (last < first)
    return fail(EINVAL, fmt::format("END is before START: {}", text));
  const auto page_size = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (first % page_size != 0 || (last + 1) % page_size != 0)
    return fail(EINVAL, fmt::format("not whole pages: START must be a multiple of {0:#x}, END one "
                                    "less than a multiple: {1}",
                                    page_size, text));
  return IovaRange{Iova{first}, Iova{last}};
}

void add_limit_options(CLI::App &command, Limits &limits, CLI::Option *excluded) {
  auto *mappings = command
                       .add_option_function<std::uint32_t>(
                           "--mapping-limit",
                           [&limits](std::uint32_t limit) {
                             limits.mappings = limit;
                             limits.given = true;
                           },
                           "Mappings per container, as type1's dma_entry_limit")
                       ->default_str(std::to_string(limits.mappings));
  auto *window = command
                     .add_option_function<std::string>(
                         "--iova-window",
                         [&limits](const std::string &text) {
                           const auto parsed = parse_iova_window(text);
                           if (!parsed)
                             throw CLI::ValidationError("--iova-window", parsed.error().where);
                           limits.iova_window = *parsed;
                           limits.given = true;
                         },
                         "Limit containers to these IOVAs (END included, whole pages, 0x... or "
                         "decimal); a group that cannot use all of them is not attached")
                     ->type_name("START-END");
  if (excluded != nullptr) {
    mappings->excludes(excluded);
    window->excludes(excluded);
  }
}

} // namespace vfio_shim::cli
