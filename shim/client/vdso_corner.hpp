// SPDX-License-Identifier: MIT
/// @file
/// A place for code of ours in a client where there is none yet.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "arch/x86_64.hpp"

namespace vfio_shim::client {

/// Writes words to the memory of a thread that the caller traces, whatever its protection.
/// @return Whether they are all there.
bool poke(Tid thread, ClientAddr place, std::span<const std::uint64_t> words);

/// An unused corner of a client's vDSO, from which a borrowed thread makes the calls that map an
/// area of ours. Behind the vDSO's own contents there is nothing but zeros up to the page's end,
/// and a tracer may write there, as it may set a breakpoint: the client then has that page to
/// itself. There are zeros again when this object goes.
///
/// To be used by the thread's tracer only, and as long as it is stopped.
class VdsoCorner {
public:
  /// Takes a corner that nobody else uses.
  /// @param process Of the thread: its first thread's id, for all to look at the same lock.
  /// @param mending What a thread goes on with that mends itself there. Its descriptors are not
  ///        closed.
  /// @return Nothing: there is no vDSO, or no room in it, or no descriptor to keep others off.
  static std::optional<VdsoCorner> take(Tid thread, Pid process, const arch::Mending &mending);

  VdsoCorner(VdsoCorner &&other) noexcept;
  VdsoCorner &operator=(VdsoCorner &&other) noexcept;
  VdsoCorner(const VdsoCorner &) = delete;
  VdsoCorner &operator=(const VdsoCorner &) = delete;
  ~VdsoCorner();

  /// Where an arch::ClientCode begins.
  ClientAddr code() const { return place_; }

private:
  VdsoCorner(Tid thread, ClientAddr place, Fd lock)
      : thread_(thread), place_(place), lock_(std::move(lock)) {}

  Tid thread_;
  ClientAddr place_;
  Fd lock_; ///< Ours, in as many processes as borrow threads.
};

} // namespace vfio_shim::client
