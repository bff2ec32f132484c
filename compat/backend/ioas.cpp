// SPDX-License-Identifier: MIT
#include "backend/ioas.hpp"

#include "abi/iommufd.hpp"
#include "backend/ioctl.hpp"

#include <span>

namespace vfio_shim {

namespace {

std::uint32_t map_flags(Access access) {
  return abi::ioas_map_fixed_iova | (access.read ? abi::ioas_map_readable : 0U) |
         (access.write ? abi::ioas_map_writeable : 0U);
}

} // namespace

void destroy_object(const Fd &iommufd, std::uint32_t id) {
  // EBUSY: a device of a group that was told to leave is still open at its client.
  abi::IommuDestroy destroy{.id = id};
  (void)run_ioctl(iommufd, abi::iommu_destroy, &destroy, "IOMMU_DESTROY");
}

Result<std::unique_ptr<Ioas>> Ioas::make(const Fd &iommufd) {
  abi::IommuIoasAlloc alloc;
  VFIO_SHIM_TRY(run_ioctl(iommufd, abi::iommu_ioas_alloc, &alloc, "IOMMU_IOAS_ALLOC"));
  return std::unique_ptr<Ioas>(new Ioas(iommufd, alloc.out_ioas_id));
}

Ioas::~Ioas() {
  destroy_object(iommufd_, id_);
}

Result<void> Ioas::keep_usable(IovaRange window) {
  const abi::IommuIovaRange range{.start = window.first.value, .last = window.last.value};
  abi::IommuIoasAllowIovas allow{
      .ioas_id = id_, .num_iovas = 1, .allowed_iovas = reinterpret_cast<std::uintptr_t>(&range)};
  return run_ioctl(iommufd_, abi::iommu_ioas_allow_iovas, &allow, "IOMMU_IOAS_ALLOW_IOVAS");
}

Result<std::vector<IovaRange>> Ioas::usable() const {
  std::vector<abi::IommuIovaRange> ranges(16);
  abi::IommuIoasIovaRanges query{.ioas_id = id_};
  for (;;) {
    query.num_iovas = static_cast<std::uint32_t>(ranges.size());
    query.allowed_iovas = reinterpret_cast<std::uintptr_t>(ranges.data());
    const auto asked =
        run_ioctl(iommufd_, abi::iommu_ioas_iova_ranges, &query, "IOMMU_IOAS_IOVA_RANGES");
    if (asked)
      break;
    if (asked.error().code != EMSGSIZE)
      return pass_on(asked);
    ranges.resize(query.num_iovas);
  }
  std::vector<IovaRange> usable;
  for (const auto &range : std::span(ranges).first(query.num_iovas))
    usable.push_back({Iova{range.start}, Iova{range.last}});
  return usable;
}

Result<void> Ioas::map_file(Iova iova, const MemoryPart &part, Access access) {
  abi::IommuIoasMapFile map{.flags = map_flags(access),
                            .ioas_id = id_,
                            .fd = part.by_file.file.get(),
                            .start = part.by_file.offset.value,
                            .length = part.size.value,
                            .iova = iova.value};
  auto mapped = run_ioctl(iommufd_, abi::iommu_ioas_map_file, &map, "IOMMU_IOAS_MAP_FILE");
  // Device memory that the device does not answer to: its decoding is off.
  if (!mapped && mapped.error().code == ENODEV)
    return fail(EFAULT, mapped.error().where);
  return mapped;
}

Result<void> Ioas::map_addresses(Client &client, Iova iova, ClientAddr start, Bytes size,
                                 Access access) {
  const abi::IommuIoasMap map{.flags = map_flags(access),
                              .ioas_id = id_,
                              .user_va = start.value,
                              .length = size.value,
                              .iova = iova.value};
  return map_in_client(client, iommufd_, Lending::privately, abi::iommu_ioas_map,
                       std::as_bytes(std::span(&map, 1)));
}

Result<void> Ioas::copy(const Ioas &source, Iova start, Iova iova, Bytes size, Access access) {
  abi::IommuIoasCopy copy{.flags = map_flags(access),
                          .dst_ioas_id = id_,
                          .src_ioas_id = source.id_,
                          .length = size.value,
                          .dst_iova = iova.value,
                          .src_iova = start.value};
  return run_ioctl(iommufd_, abi::iommu_ioas_copy, &copy, "IOMMU_IOAS_COPY");
}

Result<void> Ioas::unmap(IovaRange range) {
  const bool everything = range.first.value == 0 && range.last.value == UINT64_MAX;
  abi::IommuIoasUnmap unmap{.ioas_id = id_,
                            .iova = range.first.value,
                            .length =
                                everything ? UINT64_MAX : range.last.value - range.first.value + 1};
  auto done = run_ioctl(iommufd_, abi::iommu_ioas_unmap, &unmap, "IOMMU_IOAS_UNMAP");
  if (!done && done.error().code == ENOENT && unmap.length != 0)
    return {}; // Nothing was there: to type1's clients that is a success.
  return done;
}

} // namespace vfio_shim
