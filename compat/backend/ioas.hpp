// SPDX-License-Identifier: MIT
/// @file
/// An address space on iommufd, before any device.
#pragma once

#include "vfio_shim/client.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace vfio_shim {

/// Destroys an object of an iommufd unless something uses it; then it goes with the iommufd.
void destroy_object(const Fd &iommufd, std::uint32_t id);

/// Owns an IOAS: what is mapped, whoever may reach it.
class Ioas {
public:
  /// @param iommufd Outlives the IOAS.
  static Result<std::unique_ptr<Ioas>> make(const Fd &iommufd);
  /// One that another process has made.
  static std::unique_ptr<Ioas> adopt(const Fd &iommufd, std::uint32_t id) {
    return std::unique_ptr<Ioas>(new Ioas(iommufd, id));
  }

  Ioas(const Ioas &) = delete;
  Ioas &operator=(const Ioas &) = delete;
  ~Ioas();

  /// The object's id.
  std::uint32_t id() const { return id_; }

  /// From now on all of @p window stays usable: whatever cannot translate it, cannot attach.
  Result<void> keep_usable(IovaRange window);

  /// What can be mapped, with what is attached now. Ordered and disjoint.
  Result<std::vector<IovaRange>> usable() const;

  /// Maps memory by its file. @return EFAULT: there is no such memory.
  Result<void> map_file(Iova iova, const MemoryPart &part, Access access);

  /// Maps memory by its addresses in the client, which makes the call itself.
  /// @return EFAULT: there is no such memory. As Client::ioctl_in_client() otherwise.
  Result<void> map_addresses(Client &client, Iova iova, ClientAddr start, Bytes size,
                             Access access);

  /// Maps what @p source has at the IOVAs from @p start on. The pages are looked up and pinned in
  /// the address space that @p source was mapped from, whoever calls. @return EFAULT: there is no
  /// such memory.
  Result<void> copy(const Ioas &source, Iova start, Iova iova, Bytes size, Access access);

  /// Unmaps whatever lies in the range; no mapping may be cut by it.
  Result<void> unmap(IovaRange range);

private:
  Ioas(const Fd &iommufd, std::uint32_t id) : iommufd_(iommufd), id_(id) {}

  const Fd &iommufd_;
  std::uint32_t id_;
};

} // namespace vfio_shim
