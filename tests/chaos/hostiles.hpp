// SPDX-License-Identifier: MIT
/// @file
/// Clients that mean ill: neighbours of those that are checked.
#pragma once

#include <string_view>
#include <vector>

#include "board.hpp"
#include "life.hpp"
#include "options.hpp"

namespace chaos {

class Hostile {
public:
  virtual ~Hostile() = default;
  virtual std::string_view name() const = 0;
  /// Does so until it is killed, or cannot go on. Whatever it is answered is right, and however it
  /// ends.
  virtual void do_harm(const Setting &setting, Random random) const = 0;
};

std::vector<std::string_view> hostile_names();
std::vector<const Hostile *> chosen_hostiles(const Selection &selection);

} // namespace chaos
