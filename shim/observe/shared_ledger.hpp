// SPDX-License-Identifier: MIT
/// @file
/// The ledger in a file that others map.
#pragma once

#include "observe/ledger_directory.hpp"
#include "observe/ledger_file.hpp"
#include "observe/record_array.hpp"
#include "observe/statistics.hpp"

#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/state.hpp"

#include <array>
#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

namespace vfio_shim::observe {

/// The time now, as records have it: nanoseconds since 1970.
std::int64_t ledger_time();

/// All that a worker which has died has left.
struct Inheritance {
  /// A call that it had not answered, or not noted that it had.
  struct Call {
    Ledger::Record record;
    layout::Call body;
  };
  struct Area {
    Ledger::Record record;
    layout::Area body;
  };
  struct Resident {
    Ledger::Record record;
    layout::Resident body;
  };

  std::vector<ContainerState> containers;
  std::vector<GroupState> groups;
  std::vector<Call> calls;
  std::vector<Area> areas;
  std::vector<Resident> residents;
};

/// Keeps the record of everything in a file in memory, where LedgerReader finds it without asking.
///
/// The file is named after the prefix and goes with this object. Thread-safe within the rules of
/// Ledger: what concerns one container, one group or one device comes from one thread at a time.
/// What finds no room is refused, and counted.
///
/// The daemon must not mlockall(MCL_FUTURE): it would fetch all the memory that there is room for.
class SharedLedger final : public Ledger {
public:
  /// Makes the ledger of the calling process, in place of one that a dead daemon has left.
  ///
  /// The caller holds whatever keeps two daemons off one prefix, from before this call until after
  /// the ledger's end.
  /// @param prefix The nodes' directory below /dev.
  /// @param directory Where the file is to be; made if it is not there.
  /// @return EBUSY: its daemon lives. EINVAL: not a prefix. ENOSPC: no memory left for files.
  ///         EPERM: others may write to the directory.
  static Result<std::unique_ptr<SharedLedger>>
  create(std::string_view prefix, LedgerCapacity capacity = {},
         const std::filesystem::path &directory = ledger_directory);

  /// Goes on with the ledger of a worker that has died. @param inheritance Is given what it holds.
  /// @return EPROTO: it is none, or of another version. As LedgerReader::open().
  static Result<std::unique_ptr<SharedLedger>>
  adopt(std::string_view prefix, Inheritance &inheritance,
        const std::filesystem::path &directory = ledger_directory);

  /// How long clients have had to wait for this worker.
  void note_pause(std::chrono::nanoseconds pause) {
    header().last_pause = static_cast<std::uint64_t>(pause.count());
  }
  /// Names the process that keeps what outlives the worker.
  void note_keeper(Pid keeper) { header().keeper_pid = keeper.value; }

  /// Removes what a dead daemon has left. Does nothing if there is nothing or the daemon lives.
  static void remove_left_behind(std::string_view prefix,
                                 const std::filesystem::path &directory = ledger_directory);

  SharedLedger(const SharedLedger &) = delete;
  SharedLedger &operator=(const SharedLedger &) = delete;
  /// As remove().
  ~SharedLedger() override;

  /// Removes the file. Whoever still writes to it does so unseen.
  void remove();

  /// Counts of calls, in the same region.
  Statistics &statistics() const {
    return *reinterpret_cast<Statistics *>(static_cast<std::byte *>(region_.get_address()) +
                                           header().statistics);
  }

  FileNumber next_file() override;
  /// The number of the next file that is to be kept. See FileStore.
  std::uint64_t next_kept() { return ++header().last_kept; }
  /// Where the records of a recording are counted.
  std::atomic<std::uint64_t> &sequence() { return header().sequence; }

  Record container_opened(FileNumber file, Pid client) override;
  /// @param opening layout::Container::opening.
  void container_of(Record container, std::uint32_t user, std::uint64_t opening);
  void group_of(Record group, std::uint64_t opening);
  void iommu_set(Record container, std::uint32_t type) override;
  void dirty_tracked(Record container, bool on) override;
  void express(Record container, bool on) override;
  void stands_for(Record container, Record other) override;
  void container_backed(Record container, FileStore::Number file, std::uint32_t ioas) override;
  void container_closed(Record container) override;
  void container_gone(Record container) override;

  Record group_opened(FileNumber file, GroupId group, Pid client) override;
  void group_moved(Record group, Record container) override;
  void group_backed(Record group, const BackendState::Group &state) override;
  void group_closed(Record group) override;
  void group_gone(Record group) override;

  Record device_opened(Record group, std::string_view name) override;
  void device_given(Record device, Pid process, ClientFd number) override;
  void device_gone(Record device) override;

  Record mapped(Record container, const MappingEntry &entry) override;
  void vaddr_changed(Record container, Record mapping, std::optional<ClientAddr> vaddr) override;
  void all_dirty(Record mapping, bool yes) override;
  void unmapped(Record container, Record mapping) override;

  // What concerns one call comes from one thread at a time. 0: no room.
  /// A call is about to be served. @return Its record, and its number (layout::Call::id).
  std::pair<Record, std::uint64_t> call_begins(layout::Call call);
  /// @param change Takes layout::Call &.
  template <typename Change>
  void call_goes_on(Record call, Change change) {
    calls_.at(call).amend(change);
  }
  void call_ends(Record call) { calls_.remove(call); }

  Record area_made(const layout::Area &area) { return areas_.add(area); }
  void area_gone(Record area) { areas_.remove(area); }
  Record resident_made(const layout::Resident &resident) { return residents_.add(resident); }
  void resident_gone(Record resident) { residents_.remove(resident); }

private:
  SharedLedger(std::filesystem::path path, boost::interprocess::file_mapping file,
               boost::interprocess::mapped_region region);

  layout::Header &header() const { return *static_cast<layout::Header *>(region_.get_address()); }
  template <typename Body, typename Change>
  void amend(RecordArray<Body> &array, Record record, Change change) {
    const std::scoped_lock lock(amending_.at(record % amending_.size()));
    array.at(record).amend(change);
  }

  Inheritance read_inheritance();
  void inherit_groups(Inheritance &inheritance);
  void note_change() { header().changes.fetch_add(1, std::memory_order_release); }

  std::filesystem::path path_;
  boost::interprocess::file_mapping file_;
  boost::interprocess::mapped_region region_;
  RecordArray<layout::Container> containers_;
  RecordArray<layout::Group> groups_;
  RecordArray<layout::Device> devices_;
  RecordArray<layout::Mapping> mappings_;
  RecordArray<layout::Binding> bindings_;
  RecordArray<layout::Call> calls_;
  RecordArray<layout::Area> areas_;
  RecordArray<layout::Resident> residents_;
  std::array<std::mutex, 64> amending_; ///< Of records that two threads may amend at once.
  std::mutex bindings_mutex_;           ///< Guards what follows.
  std::map<Record, std::vector<Record>> bindings_of_; ///< By group.
};

} // namespace vfio_shim::observe
