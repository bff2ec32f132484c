// SPDX-License-Identifier: MIT
/// @file
/// What a run was asked for.
#pragma once

#include "client/provider.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace chaos {

/// Which kinds of things happen: of clients, of ends, of disturbances. Each has a name.
class Selection {
public:
  /// Names separated by commas; an empty @p only is all of them.
  Selection(const std::string &only, const std::string &without);

  bool has(std::string_view name) const;
  /// The names that are in no list of things that exist.
  const std::vector<std::string> &only() const { return only_; }
  const std::vector<std::string> &without() const { return without_; }

private:
  std::vector<std::string> only_;
  std::vector<std::string> without_;
};

struct Options {
  legacy::Provider provider;
  std::uint64_t seed = 1;
  std::uint64_t seconds = 60;
  std::size_t clients = 12;
  std::uint64_t first_round = 1;
  std::optional<std::uint64_t> rounds; ///< How many; nothing: until the time is over.
  std::uint64_t failures = 1;          ///< Give up after so many rounds that failed.
  pid_t daemon = 0;                    ///< 0: look for it.
  std::uint64_t memory_tolerance_mib = 12;
  std::uint64_t patience_seconds = 90; ///< What does not end in this time hangs.
  bool verbose = false;
  Selection selection{"", ""};

  /// Reads the command line. Ends the program with a message when it makes no sense, or asks for
  /// help.
  static Options parse(int argc, char **argv);
};

} // namespace chaos
