// SPDX-License-Identifier: MIT
#pragma once

#include "client/answer.h"
#include "client/provider.h"

#include <optional>
#include <span>
#include <string_view>

namespace legacy {

/// The behaviours in which some provider is known to differ from type1. Tests name them; what
/// each provider does instead, and why, is in known_differences.cpp and nowhere else.
enum class Behaviour {
#define LEGACY_BEHAVIOUR(name) name,
#include "behaviours.def"
#undef LEGACY_BEHAVIOUR
};

std::string_view to_string(Behaviour behaviour);

/// Under which circumstances a provider departs from type1: under `vfio-shim run` or not.
enum class When { always, supervised, unsupervised };

/// One provider's known departure from type1.
struct Difference {
  Behaviour behaviour;
  std::string_view provider;
  /// What it answers where type1 answers otherwise; nothing when it is more than one answer.
  std::optional<Answer> instead;
  std::string_view reason;
  When when = When::always;
};

/// Every known difference.
std::span<const Difference> known_differences();

/// How `provider` is known to differ from type1 in `behaviour`; nullptr if it is not.
const Difference *find_difference(const Provider &provider, Behaviour behaviour);

/// What `provider` is expected to answer where type1 answers `type1s`.
Answer expected(const Provider &provider, Behaviour behaviour, Answer type1s);
/// Whether `provider` is known to differ from type1 in `behaviour`; for behaviours that are more
/// than one answer.
bool differs(const Provider &provider, Behaviour behaviour);

} // namespace legacy
