// SPDX-License-Identifier: MIT
/// @file
/// Reads a daemon's ledger without asking the daemon.
#pragma once

#include "observe/ledger_directory.hpp"
#include "observe/ledger_layout.hpp"
#include "observe/statistics.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <boost/interprocess/mapped_region.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim::observe {

using Time = std::chrono::system_clock::time_point;

/// What a ledger says of everything that is open, at one moment.
///
/// Names come from clients and may hold any byte.
struct Snapshot {
  /// The process behind something, as it was called when it opened it.
  struct Client {
    Pid pid;
    std::string command;
  };

  struct Daemon {
    Pid pid;                    ///< The worker's.
    Pid keeper{};               ///< The process that was started, and that signals go to.
    std::uint32_t replaced = 0; ///< How often another worker has taken over.
    std::chrono::nanoseconds last_pause{}; ///< What clients had to wait the last time.
    bool alive = false;                    ///< If not, the rest is what it left behind.
    Time since;
    std::string prefix; ///< The nodes' directory below /dev.
    std::string kernel; ///< "7.2.13".
  };

  struct Group {
    std::uint64_t id = 0; ///< The number of its open file, as Container::id.
    GroupId number;
    Client client;
    Time opened;
    std::vector<std::string> devices; ///< Open at the client, ordered by name.
  };

  struct Mapping {
    Iova iova;
    std::optional<ClientAddr> vaddr; ///< None: invalidated, and not yet replaced by another.
    Bytes size;
    Access access;
  };

  struct Container {
    std::uint64_t id = 0; ///< The number of its open file; no other has the same.
    Client client;
    Time opened;
    std::uint32_t iommu_type = 0;      ///< VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, or 0: none set.
    bool express = false;              ///< The client maps by itself; nobody counts its mappings.
    std::uint64_t mappings = 0;        ///< Live ones.
    Bytes mapped_bytes;                ///< Of them.
    std::uint64_t maps = 0;            ///< Made since it was opened.
    std::uint64_t unmaps = 0;          ///< Taken away since it was opened.
    std::vector<Group> groups;         ///< Ordered by number.
    std::vector<Mapping> mapping_list; ///< By IOVA; empty unless asked for.
  };

  Daemon daemon;
  std::vector<Container> containers;           ///< The oldest first.
  std::vector<Group> groups_without_container; ///< Ordered by number.
  std::uint32_t refused = 0; ///< What was not served for want of room, since the daemon's start.
  std::uint32_t torn = 0;    ///< Records left half-written by a daemon that died.
};

/// A ledger, mapped read-only.
///
/// Stays readable, unchanging, when the daemon goes away and its ledger with it.
class LedgerReader {
public:
  /// Opens the ledger of @p prefix.
  /// @return ENOENT: there is none. EACCES: not ours to read. EPERM: made by a stranger.
  ///         EAGAIN: its daemon is just starting. EPROTO: not a ledger, or of another version.
  static Result<LedgerReader> open(std::string_view prefix,
                                   const std::filesystem::path &directory = ledger_directory);

  /// The prefixes that have a ledger, in order; readable or not, of a running daemon or a dead one.
  static std::vector<std::string>
  prefixes(const std::filesystem::path &directory = ledger_directory);

  /// The daemon whose ledger it is.
  Snapshot::Daemon daemon() const;

  /// Whether to list mappings one by one: that reads every mapping of the daemon.
  enum class Mappings : std::uint8_t { counted, listed };

  /// Reads everything, while the daemon goes on writing. Each record is whole.
  Snapshot snapshot(Mappings mappings = Mappings::counted) const;

  /// What kinds of calls the daemon has served, and how; see Statistics::read().
  std::vector<Statistics::Kind> statistics() const;

private:
  explicit LedgerReader(boost::interprocess::mapped_region region) : region_(std::move(region)) {}

  const layout::Header &header() const {
    return *static_cast<const layout::Header *>(region_.get_address());
  }
  Result<void> check(std::string_view prefix) const;
  template <typename Body, typename Visit>
  void for_each(const layout::Array &array, std::uint32_t &torn, Visit visit) const;
  Snapshot read_structure() const;
  void list_mappings(Snapshot &snapshot) const;

  boost::interprocess::mapped_region region_;
};

} // namespace vfio_shim::observe
