// SPDX-License-Identifier: MIT
/// @file
/// The end of a call whose server has died in it.

#include "rules/address_space_state.hpp"
#include "type1/container_turn.hpp"

#include "vfio_shim/container.hpp"

namespace vfio_shim {

namespace {

using Kind = Intention::Kind;
using rules::MappingTable;

/// Settles one call, with the container's lock held.
struct Settling {
  Backend &backend;
  MappingTable &mappings;
  Ledger &ledger;
  const Intention &intention;

  /// It was mapped if that was written down. If not, nobody knows how far it came.
  bool map() const {
    const auto run = mappings.find_whole(intention.range);
    if (run && !run->empty())
      return run->begin->first == intention.range.first &&
             run->begin->second.vaddr == intention.vaddr;
    if (run)
      (void)backend.unmap(intention.range);
    return false;
  }

  /// Finishes it: some of it may have gone.
  bool unmap() const {
    const auto run = mappings.find_whole(intention.range);
    return !run || run->empty() || backend.unmap(intention.range);
  }

  void take_vaddr() const {
    if (const auto run = mappings.find_whole(intention.range))
      for (auto entry = run->begin; entry != run->end; ++entry) {
        entry->second.vaddr_valid = false;
        ledger.vaddr_changed(0, entry->second.record, std::nullopt);
      }
  }

  void give_vaddr() const {
    if (const auto run = mappings.find_whole(intention.range))
      for (auto entry = run->begin; entry != run->end; ++entry) {
        entry->second.vaddr = intention.vaddr;
        entry->second.vaddr_valid = true;
        ledger.vaddr_changed(0, entry->second.record, intention.vaddr);
      }
  }
};

} // namespace

Outcome Container::settle(const Intention &intention) {
  const Turn turn(*this);
  Outcome outcome{.carried_out = intention.kind == Kind::done, .size = intention.size};
  if (!iommu_ || !backend_)
    return outcome;
  const Settling settling{.backend = *backend_,
                          .mappings = iommu_->mappings,
                          .ledger = ledger_,
                          .intention = intention};
  switch (intention.kind) {
  case Kind::map:
    outcome.carried_out = settling.map();
    break;
  case Kind::unmap:
    outcome.carried_out = settling.unmap();
    if (const auto run = iommu_->mappings.find_whole(intention.range);
        outcome.carried_out && run && !run->empty())
      forget(*run);
    break;
  case Kind::report_and_unmap: // Others may come behind it.
    if (const auto run = iommu_->mappings.find_whole(intention.range);
        run && !run->empty() && settling.unmap())
      forget(*run);
    break;
  case Kind::take_vaddr:
    settling.take_vaddr();
    outcome.carried_out = true;
    break;
  case Kind::give_vaddr:
    settling.give_vaddr();
    outcome.carried_out = true;
    break;
  case Kind::set_iommu:
    outcome.carried_out = true; // It is set.
    break;
  case Kind::done:
  case Kind::none:
  case Kind::join:
  case Kind::leave:
    break;
  }
  return outcome;
}

/// The mappings have gone.
void Container::forget(const rules::MappingRun &run) {
  for (auto mapping = run.begin; mapping != run.end; ++mapping)
    ledger_.unmapped(record_, mapping->second.record);
  iommu_->mappings.erase(run);
}

} // namespace vfio_shim
