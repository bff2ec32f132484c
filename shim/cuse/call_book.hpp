// SPDX-License-Identifier: MIT
/// @file
/// Calls under way, as the next worker finds them if this one dies.
#pragma once

#include "client/call_notes.hpp"
#include "client/left_in_clients.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/client.hpp"
#include "vfio_shim/units.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace vfio_shim::cuse {

/// Notes each call while it is served.
///
/// A call whose worker has died comes again: the kernel sends it once more with the number that it
/// had (FUSE_NOTIFY_RESEND) or, if it was answered early, its thread makes it once more. What the
/// first one did counts then, so each call is carried out once and answered once. Thread-safe.
class CallBook {
public:
  /// What tells a call from others.
  struct Identity {
    FileNumber file;      ///< The open file that it is on.
    std::uint64_t unique; ///< The kernel's number of the message.
    Tid thread;
    unsigned int command;
    std::uint64_t argument;
  };

  /// The notes of one call, until it is answered.
  class Entry final : public client::CallNotes {
  public:
    ~Entry() override { answered(); }

    /// @return ENOMEM: the ledger has no room for it. EIO: workers have died in it, again and
    /// again.
    Result<void> check() const;

    std::uint64_t id() const override { return id_; }
    void about_to(const Intention &intention) override;
    std::optional<Outcome> outcome() const override { return outcome_; }
    void answered_early() override;
    void mends_at(ClientAddr place) override;
    void answered() override;

  private:
    friend class CallBook;
    explicit Entry(observe::SharedLedger &ledger) : ledger_(ledger) {}

    observe::SharedLedger &ledger_;
    Ledger::Record record_ = 0;
    std::uint64_t id_ = 0;
    unsigned int deaths_ = 0;
    bool refused_ = false;
    std::optional<Outcome> outcome_;
  };

  /// @param ledger,areas Outlive this.
  CallBook(observe::SharedLedger &ledger, client::ClientAreas &areas)
      : ledger_(ledger), areas_(areas) {}

  /// A call is about to be served.
  std::unique_ptr<Entry> begin(const Identity &call);

  /// Tells what has become of what a call on that file was about to do. See Container::settle().
  using Settle = std::function<Outcome(FileNumber, const Intention &)>;
  /// Takes over the calls of a worker that has died, and the areas in clients.
  void inherit(observe::Inheritance &inheritance, const Settle &settle);
  /// Of the calls that had not been answered early, only those @p come again.
  void expect(const std::set<std::pair<FileNumber, std::uint64_t>> &come);

  /// The file is closed: no call on it comes again.
  void forget(FileNumber file);

private:
  /// A call that comes again, and the area of ours that its thread may still stand in.
  struct Awaited {
    Ledger::Record record;
    observe::layout::Call body;
    Outcome outcome{};
    std::uint64_t thread_started = 0;
    std::optional<client::ClientArea> area;
    Pid process{};
  };

  std::optional<Awaited> take_awaited(const Identity &call);
  std::list<Awaited> take_all_of(const Identity &call);
  void drop(Awaited &awaited);

  observe::SharedLedger &ledger_;
  client::ClientAreas &areas_;
  std::atomic<bool> any_awaited_ = false;
  std::mutex mutex_; ///< Guards what follows.
  std::list<Awaited> awaited_;
};

} // namespace vfio_shim::cuse
