// SPDX-License-Identifier: MIT
/// @file
/// Where it is written down what of ours is in clients.
#pragma once

#include "vfio_shim/file_store.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <cstdint>

namespace vfio_shim::client {

/// An area of ours in a client, by its address and its mark.
struct AreaEntry {
  Pid process;
  ClientAddr address;
  std::array<std::uint64_t, 2> mark;
};

/// A descriptor of ours in a client.
struct ResidentEntry {
  FileNumber because_of; ///< The open file.
  Pid process;
  ClientFd there;
  FileStore::Number kept; ///< The same file here.
  std::uint64_t number;
  std::uint64_t of;
};

/// Notes what the next process must know to go on with it. The methods do nothing unless
/// overridden. Thread-safe.
class ClientBook {
public:
  /// 0: it is not noted.
  using Record = std::uint32_t;

  ClientBook() = default;
  ClientBook(const ClientBook &) = delete;
  ClientBook &operator=(const ClientBook &) = delete;
  virtual ~ClientBook() = default;

  virtual Record area_made(const AreaEntry & /*area*/) { return 0; }
  virtual void area_gone(Record /*area*/) {}
  virtual Record resident_made(const ResidentEntry & /*resident*/) { return 0; }
  virtual void resident_gone(Record /*resident*/) {}
};

} // namespace vfio_shim::client
