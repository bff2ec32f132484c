// SPDX-License-Identifier: MIT
/// @file
/// What innocent clients do, beside mapping and unmapping.
#pragma once

#include <string_view>
#include <vector>

#include "options.hpp"

namespace chaos {

class Life;

/// One kind of thing that a client does now and then.
class Deed {
public:
  virtual ~Deed() = default;
  virtual std::string_view name() const = 0;
  /// Does it once and judges the answers.
  virtual void step(Life &life) const = 0;
};

std::vector<std::string_view> behaviour_names();
std::vector<const Deed *> chosen_behaviours(const Selection &selection);

} // namespace chaos
