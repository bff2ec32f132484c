/// @file
/// What the ledger's file looks like.
///
/// A header, then the statistics and four arrays of records. Records refer to one another by id:
/// slots are used again, ids are not. All that a later daemon would need to take the clients over
/// is in the records; nothing points into the memory of the daemon that wrote them.
#pragma once

#include "observe/committed.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace vfio_shim::observe::layout {

/// To be raised with every change below.
constexpr std::uint32_t version = 3;
/// "VFIOLEDG" in memory.
constexpr std::uint64_t magic = 0x4744454c4f494656;

/// Arrays begin, and grow, in steps of this.
constexpr std::uint64_t growth = std::uint64_t{64} << 10U;

constexpr std::size_t longest_prefix = 127;

/// The process behind a record.
struct Client {
  std::uint64_t started; ///< As ProcessIdentity::started.
  std::array<char, 16> command;
  std::int32_t pid;
  std::uint32_t reserved;
};

struct Container {
  std::uint64_t id;    ///< The number of its open file.
  std::int64_t opened; ///< Nanoseconds since 1970.
  Client client;
  std::uint64_t mappings;     ///< Live ones.
  std::uint64_t mapped_bytes; ///< Of those.
  std::uint64_t maps;         ///< Ever made.
  std::uint64_t unmaps;       ///< Ever taken away.
  std::uint32_t iommu_type;   ///< VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, or 0.
  std::uint32_t reserved;
};

struct Group {
  std::uint64_t id; ///< The number of its open file.
  std::int64_t opened;
  Client client;
  std::uint64_t container; ///< Its id, or 0.
  std::uint32_t number;    ///< The kernel's.
  std::uint32_t reserved;
};

struct Device {
  std::uint64_t group; ///< Its id.
  std::int64_t opened;
  std::array<char, 64> name;
};

struct Mapping {
  static constexpr std::uint32_t readable = 1;
  static constexpr std::uint32_t writable = 2;
  static constexpr std::uint32_t without_vaddr = 4; ///< vaddr is invalid; what was there last.

  std::uint64_t container; ///< Its id.
  std::uint64_t iova;
  std::uint64_t vaddr;
  std::uint64_t size;
  std::uint32_t flags; ///< Of the above.
  std::uint32_t reserved;
};

static_assert(sizeof(Committed<Mapping>) == 48, "there are millions of them");

/// An array of records.
struct Array {
  std::uint64_t offset; ///< From the start of the region.
  std::uint32_t capacity;
  std::uint32_t record_size;
  /// Only records 1 to this one have ever been used; beyond may be no memory.
  std::atomic<std::uint32_t> used;
  /// How many records were wanted when there was no room for them.
  std::atomic<std::uint32_t> refused;
};

struct Header {
  std::atomic<std::uint64_t> magic; ///< Written last: before, the rest is not there yet.
  std::uint32_t version;
  std::int32_t daemon_pid;
  std::uint64_t daemon_started; ///< As ProcessIdentity::started.
  std::int64_t created;         ///< Nanoseconds since 1970.
  std::array<char, longest_prefix + 1> prefix;
  std::array<char, 64> kernel;          ///< Its release.
  std::atomic<std::uint64_t> last_file; ///< The last number that an open file was given.
  /// Counts every change but those of mappings, to tell whether what was read belongs together.
  std::atomic<std::uint64_t> changes;
  Array containers;
  Array groups;
  Array devices;
  Array mappings;
  std::uint64_t statistics; ///< Where a Statistics is, from the start of the region.
};

/// The name of a prefix's file: "vfio.ledger". A '/' becomes '!', as in sysfs.
std::string file_name(std::string_view prefix);

/// The prefix of a file's name, or "" if it is none of ours.
std::string prefix_of(std::string_view file_name);

} // namespace vfio_shim::observe::layout
