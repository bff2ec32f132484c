// SPDX-License-Identifier: MIT
/// @file
/// What is noted of a call, for whoever takes over if we die in it.
#pragma once

#include "vfio_shim/client.hpp"

#include <cstdint>
#include <optional>

namespace vfio_shim::client {

/// The notes of one call. A call that is never repeated needs none: the methods do nothing unless
/// overridden. Called from one thread at a time.
class CallNotes {
public:
  CallNotes() = default;
  CallNotes(const CallNotes &) = delete;
  CallNotes &operator=(const CallNotes &) = delete;
  virtual ~CallNotes() = default;

  /// Never two of it, and not 0.
  virtual std::uint64_t id() const { return 1; }

  /// See Client.
  virtual void about_to(const Intention & /*intention*/) {}
  virtual std::optional<Outcome> outcome() const { return std::nullopt; }

  /// The call is about to be answered before it is served: the kernel has its thread make it once
  /// more, unless that is mended.
  virtual void answered_early() {}
  /// That is mended by an arch::Mending at @p place. As soon as its `answered` is id(), the call is
  /// answered.
  virtual void mends_at(ClientAddr /*place*/) {}
  /// The thread has its answer, or gets it by itself.
  virtual void answered() {}
};

} // namespace vfio_shim::client
