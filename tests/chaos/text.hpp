// SPDX-License-Identifier: MIT
/// @file
/// Small pieces of text, made in one line.
#pragma once

#include <string>

namespace chaos {

/// As printf(3) would print it.
[[gnu::format(printf, 1, 2)]] std::string text(const char *format, ...);

/// What a small file holds, without the line's end; "" if it cannot be read.
std::string read_file(const std::string &path);

/// Writes to a file that is there. Returns 0, or the errno.
int write_file(const std::string &path, const std::string &contents);

} // namespace chaos
