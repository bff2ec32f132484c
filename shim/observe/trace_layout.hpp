// SPDX-License-Identifier: MIT
/// @file
/// What a recording looks like in its file.
///
/// A header, then records of one size, in the order in which the calls *ended*; `sequence` gives
/// the order in which they began. The last record is of kind `end`: a recording without one has
/// lost its tail, or is being written still. Little-endian, as the machines are that this runs on.
#pragma once

#include "vfio_shim/units.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace vfio_shim::observe::trace {

/// To be raised with every change below.
constexpr std::uint32_t version = 1;
/// "VFIOTRAC" in the file.
constexpr std::uint64_t magic = 0x434152544f494656;

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_size; ///< Where the first record begins.
  std::uint32_t record_size;
  std::int32_t daemon_pid;
  std::uint64_t daemon_started; ///< As ProcessIdentity::started.
  std::int64_t began;           ///< Nanoseconds since 1970; the records count from here.
  std::array<char, 64> kernel;  ///< Its release.
  std::array<char, 128> prefix; ///< The nodes' directory below /dev.
  std::array<char, 32> backend; ///< What carried the calls out: "iommufd".
  std::array<char, 248> reserved;
};
static_assert(sizeof(Header) == 512);

/// What a record is about.
enum class Kind : std::uint8_t {
  open_container = 1, ///< open() of the container node.
  open_group = 2,     ///< open() of a group node.
  call = 3,           ///< An ioctl on one of them.
  close = 4,          ///< The last close() of one of them. Devices' closes are not seen.
  end = 5,            ///< Nothing follows: `argument` calls were recorded, `result` were lost.
};

/// What client memory a call was about; neighbours of the same kind in one.
struct Memory {
  static constexpr std::uint8_t shared = 1;  ///< Mapped shared in the client.
  static constexpr std::uint8_t by_file = 2; ///< Went by its file, without borrowing the thread.

  std::uint64_t size;
  std::uint32_t page_size; ///< Of the VMA.
  std::uint8_t kind;       ///< A MemoryKind.
  std::uint8_t flags;
  std::uint16_t reserved;
};
static_assert(sizeof(Memory) == 16);

/// What a record calls an open file: the lower half of its number.
constexpr std::uint32_t file_of(FileNumber number) {
  return static_cast<std::uint32_t>(number.value);
}

constexpr std::size_t most_memory = 4;
constexpr std::size_t most_bytes = 64;

/// One call. Durations are in nanoseconds and disjoint; what is missing from `total` is the
/// daemon's own work.
struct Record {
  std::uint64_t sequence; ///< From 1, in the order in which calls began to be served. A gap: lost.
  std::uint64_t at;       ///< When the call was received, nanoseconds after Header::began.
  std::uint64_t total;    ///< From then until it was answered.
  std::uint64_t in;       ///< Until it was its turn: calls on one file are served one by one.
  std::uint64_t borrow;   ///< While the client's thread was borrowed, without the kernel's part.
  std::uint64_t kernel;   ///< The backend's part.
  std::uint64_t out;      ///< Answering.
  std::uint64_t argument; ///< As the client gave it: a number or an address.
  std::int64_t result;    ///< The ioctl's value, or -1.
  std::int32_t error;     ///< 0, or the errno.
  std::uint32_t command;  ///< The ioctl's number.
  std::int32_t pid;       ///< The client; of a `close`, whoever had opened the file.
  std::int32_t thread;    ///< The client's.
  std::array<char, 16> client; ///< The client's command name; may fill all of it.
  std::uint32_t file;          ///< The open file: file_of() its number.
  std::uint32_t other;         ///< The container's file that VFIO_GROUP_SET_CONTAINER named, or 0.
  std::uint32_t group;         ///< Of a group's file: the kernel's number.
  Kind kind;
  std::uint8_t stretches;    ///< Of memory; the first most_memory of them are in `memory`.
  std::uint16_t was_read;    ///< How many bytes of the argument's struct are in `before`.
  std::uint16_t was_written; ///< Up to which byte the answer goes in `after`.
  std::uint16_t reserved;
  std::uint32_t of_group; ///< 1: the file is a group's; 0: a container's.
  std::array<Memory, most_memory> memory;
  /// What the argument pointed to when the call began: a struct, an int, or a string.
  std::array<std::byte, most_bytes> before;
  /// The same place after the call: what was answered, and where nothing was written, `before`.
  std::array<std::byte, most_bytes> after;
};
static_assert(sizeof(Record) == 320);
static_assert(std::is_trivially_copyable_v<Record> && std::is_trivially_copyable_v<Header>);
static_assert(std::endian::native == std::endian::little);

} // namespace vfio_shim::observe::trace
