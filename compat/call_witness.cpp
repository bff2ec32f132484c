// SPDX-License-Identifier: MIT
#include "vfio_shim/call_witness.hpp"

#include <utility>

namespace vfio_shim {

namespace {
// A call is served in one thread, through layers that should not know that somebody watches.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local CallWitness *current_witness = nullptr;
} // namespace

CallWitness &CallWitness::current() {
  static CallWitness nobody;
  return current_witness != nullptr ? *current_witness : nobody;
}

WitnessScope::WitnessScope(CallWitness &witness)
    : before_(std::exchange(current_witness, &witness)) {}

WitnessScope::~WitnessScope() {
  current_witness = before_;
}

} // namespace vfio_shim
