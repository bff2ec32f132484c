// SPDX-License-Identifier: MIT
/// @file
/// Memory of ours in clients.
#pragma once

#include "client/client_book.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>

#include "arch/x86_64.hpp"

namespace vfio_shim::client {

/// Two pages of ours in a client: one has the code from which a borrowed thread makes its calls,
/// the other one what these point to, and what the code needs if we die.
///
/// The client may unmap them, or put something else there, at any time: the second page bears a
/// random mark, which is to be looked at before each use.
class ClientArea {
public:
  static constexpr Bytes page_size{4096};
  static constexpr Bytes size{2 * page_size.value};

  /// The area at @p address, which bears no mark yet.
  explicit ClientArea(ClientAddr address) : address_(address) {}

  ClientAddr code() const { return address_; }

  /// Room for what system calls point to,
  ClientAddr scratch() const { return address_ + page_size; }
  /// for what an errand thread's calls point to,
  ClientAddr errand_scratch() const { return scratch() + Bytes{scratch_size}; }
  /// and for receiving descriptors. Nobody else writes here: their numbers are wanted if we die.
  ClientAddr reception() const { return errand_scratch() + Bytes{scratch_size}; }
  /// Of each of these.
  static constexpr std::size_t scratch_size = 1024;

  /// The words that belong to code().
  static constexpr auto code_words() {
    return arch::ClientCode(Bytes{page_size.value + mending_offset}).words();
  }

  /// As another process has noted it.
  explicit ClientArea(const AreaEntry &entry)
      : address_(entry.address), mark_(std::bit_cast<Mark>(entry.mark)) {}
  AreaEntry entry_of(Pid process) const {
    return {.process = process,
            .address = address_,
            .mark = std::bit_cast<std::array<std::uint64_t, 2>>(mark_)};
  }

  /// Where it is noted.
  ClientBook::Record record = 0;

  /// Whether @p place lies in it.
  bool has(ClientAddr place) const { return place >= address_ && place < address_ + size; }

  /// Marks the second page. @return As write_memory(); the errno of getrandom().
  Result<void> mark(Tid thread);
  /// Looks whether the area is still there, in the address space of @p thread.
  bool is_in(Tid thread) const;

  /// Writes what the code needs. @return EFAULT: the client has taken the page away.
  Result<void> write(Tid thread, const arch::Mending &mending) const;
  /// The address of @p offset of that.
  ClientAddr place_of(std::size_t offset) const { return place_of_mending() + Bytes{offset}; }

private:
  using Mark = std::array<std::byte, 16>;

  static constexpr std::size_t mending_offset = 3 * scratch_size; ///< In the second page.

  ClientAddr place_of_mending() const { return address_ + page_size + Bytes{mending_offset}; }
  ClientAddr place_of_mark() const { return place_of_mending() + Bytes{sizeof(arch::Mending)}; }
  static_assert(mending_offset + sizeof(arch::Mending) + sizeof(Mark) <= page_size.value);

  ClientAddr address_;
  Mark mark_{};
};

/// The areas that stay in clients from one borrow to the next. A process has as many as it had
/// threads borrowed at once. Thread-safe.
class ClientAreas {
public:
  /// @param book Outlives this.
  explicit ClientAreas(ClientBook &book) : book_(book) {}
  ClientAreas() : book_(no_book_) {}

  /// Writes down that @p area is there now.
  void note(Pid process, ClientArea &area) {
    area.record = book_.area_made(area.entry_of(process));
  }

  /// An area in the process of @p thread, if there is one that nobody uses. It is the caller's
  /// until it is given back.
  std::optional<ClientArea> take(Tid thread, Pid process);
  /// Keeps @p area for the next one. Beyond many, the oldest is forgotten, and stays in its client.
  void give_back(Pid process, const ClientArea &area);

private:
  struct Entry {
    Pid process;
    ClientArea area;
  };

  std::optional<ClientArea> take_any(Pid process);

  ClientBook no_book_;
  ClientBook &book_;
  std::mutex mutex_;        ///< Guards unused_.
  std::list<Entry> unused_; ///< The latest first.
};

} // namespace vfio_shim::client
