/// @file
/// A page of ours in a client.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <array>
#include <cstddef>

namespace vfio_shim::client {

/// A page that was mapped in a client for us, and that bears a random mark at its end. The client
/// may unmap it, or put something else there: the mark tells.
class MarkedPage {
public:
  /// Marks the page at @p address. @return As write_memory(); the errno of getrandom().
  static Result<MarkedPage> mark(Tid thread, ClientAddr address);

  ClientAddr address() const { return address_; }

  /// Whether the page is still there, in the address space of @p thread.
  bool is_in(Tid thread) const;

private:
  using Mark = std::array<std::byte, 16>;

  MarkedPage(ClientAddr address, Mark mark) : address_(address), mark_(mark) {}

  static ClientAddr place_of_mark(ClientAddr page);

  ClientAddr address_;
  Mark mark_;
};

} // namespace vfio_shim::client
