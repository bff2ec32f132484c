// SPDX-License-Identifier: MIT
/// @file
/// What --help looks like.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>
#include <string_view>

namespace vfio_shim::cli {

/// Breaks lines between words, so that none is longer than @p width unless a single word is.
///
/// A line's continuations begin where its second column begins, which is set off by two spaces or
/// more. A line with one column continues where it begins; an option's name a bit to the right.
std::string wrapped(std::string_view text, std::size_t width);

/// CLI11's help, no wider than the terminal it is printed to.
class HelpFormatter final : public CLI::Formatter {
public:
  std::string make_help(const CLI::App *app, std::string name,
                        CLI::AppFormatMode mode) const override;
};

} // namespace vfio_shim::cli
