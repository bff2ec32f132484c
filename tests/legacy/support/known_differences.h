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

/// One provider's known departure from type1.
struct Difference {
  Behaviour behaviour;
  std::string_view provider;
  /// What it answers where type1 answers otherwise; nothing when it is more than one answer.
  std::optional<Answer> instead;
  std::string_view reason;
};

/// Every known difference.
std::span<const Difference> known_differences();

/// What `provider` is expected to answer where type1 answers `type1s`.
Answer expected(const Provider &provider, Behaviour behaviour, Answer type1s);
/// Whether `provider` is known to differ from type1 in `behaviour`; for behaviours that are more
/// than one answer.
bool differs(const Provider &provider, Behaviour behaviour);

} // namespace legacy
