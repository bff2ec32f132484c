// SPDX-License-Identifier: MIT
/// @file
/// What of ours is in clients, in the ledger.
#pragma once

#include "client/client_book.hpp"
#include "observe/shared_ledger.hpp"

namespace vfio_shim::cuse {

/// Writes into the ledger what the room of clients has to say.
class ClientNotes final : public client::ClientBook {
public:
  /// @param ledger Outlives this.
  explicit ClientNotes(observe::SharedLedger &ledger) : ledger_(ledger) {}

  Record area_made(const client::AreaEntry &area) override {
    return ledger_.area_made({.address = area.address.value,
                              .mark = area.mark,
                              .pid = static_cast<std::uint64_t>(area.process.value)});
  }
  void area_gone(Record area) override {
    if (area != 0)
      ledger_.area_gone(area);
  }
  Record resident_made(const client::ResidentEntry &resident) override {
    return ledger_.resident_made({.file = resident.because_of.value,
                                  .kept = resident.kept,
                                  .number = resident.number,
                                  .of = resident.of,
                                  .pid = resident.process.value,
                                  .descriptor = resident.there.value});
  }
  void resident_gone(Record resident) override { ledger_.resident_gone(resident); }

private:
  observe::SharedLedger &ledger_;
};

} // namespace vfio_shim::cuse
