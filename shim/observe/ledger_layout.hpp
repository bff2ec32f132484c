// SPDX-License-Identifier: MIT
/// @file
/// What the ledger's file looks like.
///
/// A header, then the statistics and the arrays of records. Records refer to one another by id:
/// slots are used again, ids are not. All that the next worker needs to take the clients over is in
/// the records; nothing points into the memory of the one that wrote them. A writer may die between
/// any two words: what is amended in a record is right in any mixture of old and new words, or
/// counts only once a last word says so.
#pragma once

#include "observe/committed.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace vfio_shim::observe::layout {

/// To be raised with every change below.
constexpr std::uint32_t version = 5;
/// The oldest version that can be converted.
constexpr std::uint32_t oldest_version = 4;
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
  std::uint64_t id;      ///< The number of its open file.
  std::uint64_t opening; ///< The kernel's number of the message that opened it; 0: just begun.
  std::int64_t opened;   ///< Nanoseconds since 1970.
  Client client;
  std::uint64_t mappings;     ///< Live ones.
  std::uint64_t mapped_bytes; ///< Of those.
  std::uint64_t maps;         ///< Ever made.
  std::uint64_t unmaps;       ///< Ever taken away.
  std::uint64_t backend_file; ///< FileStore::Number of what its backend is; 0: it has none.
  std::uint32_t ioas;
  std::uint32_t user;       ///< Who opened it.
  std::uint32_t iommu_type; ///< VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, or 0.
  std::uint32_t flags;      ///< Of those below.

  static constexpr std::uint32_t closed = 1; ///< Its file is.
  static constexpr std::uint32_t tracking_dirty = 2;
  static constexpr std::uint32_t express = 4; ///< Its client maps by itself.

  std::uint64_t stands_for; ///< Calls on its file are for that container; 0: for itself.
};

struct Group {
  std::uint64_t id;      ///< The number of its open file.
  std::uint64_t opening; ///< As Container::opening.
  std::int64_t opened;
  Client client;
  std::uint64_t container;    ///< Its id, or 0.
  std::uint64_t backend_file; ///< FileStore::Number of the kernel's own group.
  std::uint32_t domain;       ///< Its HWPT.
  std::uint32_t number;       ///< The kernel's.
  std::uint32_t flags;        ///< Of those below.
  std::uint32_t generation;   ///< Of its bindings: others do not count.

  static constexpr std::uint32_t closed = 1; ///< Its file is, or it was unplugged.
  static constexpr std::uint32_t tracks_dirty = 2;
};

/// A process that has a device open.
struct Holder {
  std::int32_t pid; ///< 0: nobody.
  std::int32_t number;
};

/// A device that was given to a client.
struct Device {
  static constexpr std::size_t most_holders = 8;

  std::uint64_t group; ///< Its id.
  std::int64_t opened;
  std::array<char, 64> name;
  std::array<Holder, most_holders> holders;
};

/// A device that is bound: BackendState::Device.
struct Binding {
  std::uint64_t group; ///< Its id.
  std::uint32_t generation;
  std::uint32_t devid;
  std::uint64_t attached; ///< 0 or 1.
  std::uint64_t file;
  std::array<std::uint64_t, 6> bars;
  std::uint64_t filesystem;
  std::uint64_t inode;
  std::array<char, 64> name;
};

/// A call under way, on one open file at most one.
struct Call {
  std::uint64_t id;     ///< Never two of it.
  std::uint64_t file;   ///< The number of the open file.
  std::uint64_t unique; ///< The kernel's number of the message.
  std::uint64_t argument;
  std::uint32_t command;
  std::int32_t thread;    ///< Who makes it.
  std::uint64_t place;    ///< Of the thread's Mending; 0: not known.
  std::int64_t first;     ///< When it came for the first time: nanoseconds since 1970.
  std::uint32_t attempts; ///< How often it has come.
  std::uint32_t early;    ///< 1: it has been answered, and comes again by itself.
  std::uint64_t iova;     ///< Intention::range and so on.
  std::uint64_t last;
  std::uint64_t vaddr;
  std::uint64_t size;
  std::uint64_t intention; ///< Its kind. Written last.
};

/// An area of ours in a client: client::ClientArea.
struct Area {
  std::uint64_t address;
  std::array<std::uint64_t, 2> mark;
  std::uint64_t pid;
};

/// A descriptor of ours in a client: client::ResidentDescriptor.
struct Resident {
  std::uint64_t file; ///< The number of the open file because of which it is there.
  std::uint64_t kept; ///< FileStore::Number.
  std::uint64_t number;
  std::uint64_t of;
  std::int32_t pid;
  std::int32_t descriptor;
};

struct Mapping {
  static constexpr std::uint32_t readable = 1;
  static constexpr std::uint32_t writable = 2;
  static constexpr std::uint32_t without_vaddr = 4; ///< vaddr is invalid; what was there last.
  static constexpr std::uint32_t all_dirty = 8;     ///< Mapping::all_dirty.

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
  std::int32_t daemon_pid;      ///< The worker's.
  std::uint64_t daemon_started; ///< As ProcessIdentity::started.
  std::int64_t created;         ///< Nanoseconds since 1970.
  std::int32_t keeper_pid;      ///< 0: there is none.
  std::uint32_t replaced;       ///< How often another worker has taken over.
  std::uint64_t last_pause;     ///< Nanoseconds that clients had to wait, the last time.
  std::array<char, longest_prefix + 1> prefix;
  std::array<char, 64> kernel;          ///< Its release.
  std::atomic<std::uint64_t> last_file; ///< The last number that an open file was given.
  std::atomic<std::uint64_t> last_call; ///< The same for calls,
  std::atomic<std::uint64_t> last_kept; ///< for kept files,
  std::atomic<std::uint64_t> sequence;  ///< and for records of a recording.
  /// Counts every change but those of mappings, to tell whether what was read belongs together.
  std::atomic<std::uint64_t> changes;
  Array containers;
  Array groups;
  Array devices;
  Array mappings;
  Array bindings;
  Array calls;
  Array areas;
  Array residents;
  std::uint64_t statistics; ///< Where a Statistics is, from the start of the region.
};

/// The name of a prefix's file: "vfio.ledger". A '/' becomes '!', as in sysfs.
std::string file_name(std::string_view prefix);

/// The prefix of a file's name, or "" if it is none of ours.
std::string prefix_of(std::string_view file_name);

} // namespace vfio_shim::observe::layout
