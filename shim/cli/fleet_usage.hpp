// SPDX-License-Identifier: MIT
/// @file
/// The usage books of many hosts, put together.
#pragma once

#include "observe/usage_book.hpp"

#include "vfio_shim/result.hpp"

#include <map>
#include <set>
#include <string>
#include <string_view>

namespace vfio_shim::cli {

/// How a program has used the legacy API, and where.
struct ProgramOnHosts {
  observe::ProgramUse use;
  std::set<std::string> hosts; ///< Empty: this host is meant, and nobody asked which.
};

/// Programs by name.
using ProgramsOnHosts = std::map<std::string, ProgramOnHosts, std::less<>>;

/// Adds what `usage --json` wrote on another host, or what was merged from several.
///
/// @param text The file's content. Not trusted: names are made printable and are cut.
/// @param file_name Stands for the host if the text names none.
/// @return EBADMSG: the text is not the output of `usage --json`. Nothing was added then.
Result<void> add_usage_json(ProgramsOnHosts &programs, std::string_view text,
                            std::string_view file_name);

} // namespace vfio_shim::cli
