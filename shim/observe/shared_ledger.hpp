/// @file
/// The ledger in a file that others map.
#pragma once

#include "observe/ledger_directory.hpp"
#include "observe/record_array.hpp"
#include "observe/statistics.hpp"

#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace vfio_shim::observe {

/// How many records of each kind there is room for. Memory is taken only as records are used.
struct LedgerCapacity {
  std::uint32_t containers = 8192;
  std::uint32_t groups = 16384;
  std::uint32_t devices = 16384;
  std::uint32_t mappings = 4U << 20U; ///< 64 containers at type1's limit of mappings each.
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

  Record container_opened(FileNumber file, Pid client) override;
  void iommu_set(Record container, std::uint32_t type) override;
  void container_gone(Record container) override;

  Record group_opened(FileNumber file, GroupId group, Pid client) override;
  void group_moved(Record group, Record container) override;
  void group_gone(Record group) override;

  Record device_opened(Record group, std::string_view name) override;
  void device_gone(Record device) override;

  Record mapped(Record container, const MappingEntry &entry) override;
  void vaddr_changed(Record container, Record mapping, std::optional<ClientAddr> vaddr) override;
  void unmapped(Record container, Record mapping) override;

private:
  SharedLedger(std::filesystem::path path, boost::interprocess::file_mapping file,
               boost::interprocess::mapped_region region);

  layout::Header &header() const { return *static_cast<layout::Header *>(region_.get_address()); }
  void note_change() { header().changes.fetch_add(1, std::memory_order_release); }

  std::filesystem::path path_;
  boost::interprocess::file_mapping file_;
  boost::interprocess::mapped_region region_;
  RecordArray<layout::Container> containers_;
  RecordArray<layout::Group> groups_;
  RecordArray<layout::Device> devices_;
  RecordArray<layout::Mapping> mappings_;
};

} // namespace vfio_shim::observe
