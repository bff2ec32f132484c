// SPDX-License-Identifier: MIT
/// @file
/// Choosing by what a variant holds.
#pragma once

#include <utility>
#include <variant>

namespace vfio_shim::rules {

/// Calls the one of @p cases that takes what @p value holds. One that takes `const auto &` stands
/// for the rest.
template <typename Variant, typename... Cases>
decltype(auto) match(Variant &&value, Cases &&...cases) {
  struct Overloaded : std::decay_t<Cases>... {
    using std::decay_t<Cases>::operator()...;
  };
  return std::visit(Overloaded{std::forward<Cases>(cases)...}, std::forward<Variant>(value));
}

} // namespace vfio_shim::rules
