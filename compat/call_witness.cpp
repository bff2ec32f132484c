#include "vfio_shim/call_witness.hpp"

#include <utility>

namespace vfio_shim {

namespace {
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
