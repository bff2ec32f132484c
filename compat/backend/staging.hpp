// SPDX-License-Identifier: MIT
/// @file
/// Mapping a client's memory without its help.
#pragma once

#include "backend/ioas.hpp"

#include "vfio_shim/client.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace vfio_shim {

/// The whole address space of a client in an IOAS that no device is attached to, so that parts of
/// it can be copied from there.
///
/// Such a map pins and charges nothing. Only the first one needs the client; afterwards anybody who
/// holds the iommufd can copy from it, and the kernel looks the pages up in the client and charges
/// the client.
///
/// - Pages that are pinned through a map already are not looked up again. The client may have put
///   others there meanwhile, so a range that overlaps one which is mapped comes from another map of
///   the same address space: there are a few *layers* of each kind. What is mapped again and again
///   comes from the same layer if its pages are seen to be the same still.
/// - A map for writing pins for writing, so what is only read has a map of its own.
/// - Whoever holds the iommufd can reach all of that memory. A second process that shares the
///   container could have kept it, from the call that only it could make. So the first process is
///   the only one, and when there is another, there is no staging any more.
///
/// Not thread-safe.
class Staging {
public:
  /// @param iommufd,target Outlive this. @param target What is mapped goes there.
  Staging(const Fd &iommufd, Ioas &target) : iommufd_(iommufd), target_(target) {}

  /// Sees to it that the client may have the iommufd for a moment. To be called before it gets it,
  /// and before map().
  /// @return EBUSY, ESRCH as Client::address_space().
  Result<void> admit(Client &client);

  /// Maps the memory of the client that was admitted, from @p start on.
  /// @return False: not this way, and nothing is mapped. The reason does not matter: whoever asks
  ///         the client itself learns it.
  bool map(Client &client, Iova iova, ClientAddr start, Bytes size, Access access);

  /// Whatever lay in @p range is unmapped.
  void unmapped(IovaRange range);

private:
  /// A range of addresses that is mapped through a layer, once or more often.
  struct Use {
    std::uint64_t end; ///< The address after it.
    unsigned int times;
    std::vector<std::uint64_t> pages; ///< The physical pages. None: they are not known.
  };
  /// A map of the whole address space.
  struct Layer {
    std::unique_ptr<Ioas> ioas;
    std::ptrdiff_t number; ///< Among those of its kind, from 0.
    bool writable;
    std::map<std::uint64_t, Use> in_use; ///< By the first address; they do not overlap.

    bool overlaps(std::uint64_t start, std::uint64_t end) const;
    void put_back(std::uint64_t start);
  };
  /// The source of a mapping of ours.
  struct Origin {
    Layer *layer;
    std::uint64_t start;
  };

  void drop_layers();
  Layer *layer_with_same_pages(Client &client, ClientAddr start, Bytes size, Access access);
  Layer *unused_layer(Client &client, ClientAddr start, Bytes size, Access access);
  Layer *make_layer(Client &client, Access access, std::ptrdiff_t number);
  bool copy_from(Layer &layer, Iova iova, ClientAddr start, Bytes size, Access access);

  const Fd &iommufd_;
  Ioas &target_;
  std::optional<AddressSpaceId> of_; ///< Whose memory the layers are.
  bool given_up_ = false;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::map<Iova, Origin> origins_; ///< By the first IOVA of each mapping.
};

} // namespace vfio_shim
