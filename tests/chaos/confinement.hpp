// SPDX-License-Identifier: MIT
/// @file
/// In which circumstances a client runs.
#pragma once

#include <string_view>
#include <vector>

#include "options.hpp"
#include "random.hpp"

namespace chaos {

class Confinement {
public:
  virtual ~Confinement() = default;
  virtual std::string_view name() const = 0;
  /// Whether its process begins a pid namespace.
  virtual bool in_a_pid_namespace() const { return false; }
  /// Whether RLIMIT_MEMLOCK binds the client.
  virtual bool bound_by_limits() const { return false; }
  /// To be called by the client when it has opened its files. Throws std::system_error.
  virtual void confine_this_process() const = 0;
};

std::vector<std::string_view> confinement_names();
const Confinement &some_confinement(Random &random, const Selection &selection);

} // namespace chaos
