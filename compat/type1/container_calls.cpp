/// @file
/// The container's ioctls, one handler each. Source of the rules: drivers/vfio/container.c and
/// drivers/vfio/vfio_iommu_type1.c.

#include "abi/vfio.hpp"
#include "type1/container_turn.hpp"
#include "type1/dirty_pages.hpp"
#include "type1/operations.hpp"

#include "vfio_shim/container.hpp"

#include <algorithm>
#include <iterator>
#include <optional>

#include <fmt/format.h>

#include "rules/address_space_state.hpp"
#include "rules/capability_chain.hpp"
#include "rules/dirty_bitmap.hpp"

namespace vfio_shim {

using rules::Version;
using type1::Argument;
using type1::ArgumentKind;

/// The handlers. Each is called with the container's lock held.
struct ContainerCalls {
  using Operation = type1::Operation<Container>;

  static Result<long> get_api_version(Container & /*container*/, Client & /*client*/,
                                      const Argument & /*argument*/) {
    return VFIO_API_VERSION;
  }

  static Result<long> check_extension(Container &container, Client & /*client*/,
                                      const Argument &argument) {
    switch (argument.value) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_UNMAP_ALL:
      return 1;
    case VFIO_DMA_CC_IOMMU:
      return container.iommu_ && container.iommu_->space.coherent ? 1 : 0;
    case VFIO_UPDATE_VADDR:
      return container.iommu_ ? 1 : 0;
    default:
      return 0;
    }
  }

  static Result<long> set_iommu(Container &container, Client & /*client*/,
                                const Argument &argument) {
    if (container.groups_.empty() || container.iommu_)
      return fail(EINVAL, container.iommu_ ? "IOMMU already set" : "no group yet");
    const auto version = version_of(argument.value);
    if (!version)
      return pass_on(version);

    container.iommu_ = std::make_unique<rules::AddressSpaceState>(rules::AddressSpaceState{
        .version = *version,
        .space = {},
        .mappings = rules::MappingTable(container.options_.mapping_limit)});
    const auto attached = container.refresh_address_space();
    if (!attached) {
      container.iommu_.reset();
      return pass_on(attached);
    }
    container.ledger_.iommu_set(container.record_, static_cast<std::uint32_t>(argument.value));
    return 0;
  }

  static Result<long> get_info(Container &container, Client &client, const Argument &argument) {
    const auto &iommu = *container.iommu_;
    auto info = argument.as<vfio_iommu_type1_info>();
    const std::size_t answer_size = std::min<std::size_t>(info.argsz, sizeof(info));
    info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
    info.iova_pgsizes = iommu.space.page_sizes;
    info.cap_offset = 0;

    const auto chain =
        rules::build_capability_chain(iommu.space, iommu.mappings.available(), sizeof(info));
    if (info.argsz < sizeof(info) + chain.size()) {
      info.argsz = static_cast<std::uint32_t>(sizeof(info) + chain.size());
    } else {
      VFIO_SHIM_TRY(client.write(argument.address() + Bytes{sizeof(info)}, chain));
      info.cap_offset = sizeof(info);
    }
    VFIO_SHIM_TRY(type1::write_struct(client, argument.address(), info, answer_size));
    return 0;
  }

  static Result<long> map_dma(Container &container, Client &client, const Argument &argument) {
    constexpr std::uint32_t known_flags =
        VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | VFIO_DMA_MAP_FLAG_VADDR;
    const auto map = argument.as<vfio_iommu_type1_dma_map>();
    if ((map.flags & ~known_flags) != 0)
      return fail(EINVAL, "unknown flags");
    const MapRequest request{.iova = Iova{map.iova},
                             .vaddr = ClientAddr{map.vaddr},
                             .size = Bytes{map.size},
                             .access = {.read = (map.flags & VFIO_DMA_MAP_FLAG_READ) != 0,
                                        .write = (map.flags & VFIO_DMA_MAP_FLAG_WRITE) != 0}};
    if ((map.flags & VFIO_DMA_MAP_FLAG_VADDR) != 0)
      return update_vaddr(container, request);

    auto &iommu = *container.iommu_;
    VFIO_SHIM_TRY(iommu.mappings.check_map(request, iommu.space));
    if (iommu.tracking_dirty && !rules::trackable(request.size, iommu.space.page_size()))
      return fail(EINVAL, "too large for dirty tracking");
    VFIO_SHIM_TRY(container.attach_claimed());
    // Once it is mapped, nothing may fail any more.
    auto entry = rules::MappingTable::entry_of(request);
    VFIO_SHIM_TRY(container.backend_->map(client, request));
    entry.mapped().record = container.ledger_.mapped(container.record_, {.iova = request.iova,
                                                                         .vaddr = request.vaddr,
                                                                         .size = request.size,
                                                                         .access = request.access});
    if (entry.mapped().record == 0) {
      (void)container.backend_->unmap(rules::range_of(request));
      return fail_for_operator(ENOMEM, "the ledger has no room for another mapping");
    }
    iommu.mappings.insert(std::move(entry));
    return 0;
  }

  static Result<long> unmap_dma(Container &container, Client &client, const Argument &argument) {
    constexpr std::uint32_t known_flags =
        VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR;
    auto unmap = argument.as<vfio_iommu_type1_dma_unmap>();
    if ((unmap.flags & ~known_flags) != 0)
      return fail(EINVAL, "unknown flags");

    const auto size = (unmap.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) != 0
                          ? unmap_with_bitmap(container, client, unmap, argument.address())
                      : (unmap.flags & VFIO_DMA_UNMAP_FLAG_VADDR) != 0
                          ? invalidate_vaddr(container, unmap)
                          : unmap_without_bitmap(container, unmap);
    if (!size)
      return pass_on(size);
    unmap.size = size->value;
    VFIO_SHIM_TRY(type1::write_struct(client, argument.address(), unmap, minimum_of_unmap));
    return 0;
  }

  static Result<long> dirty_pages(Container &container, Client &client, const Argument &argument) {
    return type1::dirty_pages(*container.iommu_, *container.backend_, client, argument.value);
  }

  static constexpr std::size_t minimum_of_info =
      offsetof(vfio_iommu_type1_info, iova_pgsizes) + sizeof(vfio_iommu_type1_info::iova_pgsizes);
  static constexpr std::size_t minimum_of_map = sizeof(vfio_iommu_type1_dma_map);
  static constexpr std::size_t minimum_of_unmap = sizeof(vfio_iommu_type1_dma_unmap);

  /// What the container itself answers.
  static constexpr std::array<Operation, 3> always = {{
      {VFIO_GET_API_VERSION, "VFIO_GET_API_VERSION", ArgumentKind::value, 0, get_api_version},
      {VFIO_CHECK_EXTENSION, "VFIO_CHECK_EXTENSION", ArgumentKind::value, 0, check_extension},
      {VFIO_SET_IOMMU, "VFIO_SET_IOMMU", ArgumentKind::value, 0, set_iommu},
  }};

  /// What its IOMMU answers, once it is set.
  static constexpr std::array<Operation, 4> with_iommu = {{
      {VFIO_IOMMU_GET_INFO, "VFIO_IOMMU_GET_INFO", ArgumentKind::sized_struct, minimum_of_info,
       get_info},
      {VFIO_IOMMU_MAP_DMA, "VFIO_IOMMU_MAP_DMA", ArgumentKind::sized_struct, minimum_of_map,
       map_dma},
      {VFIO_IOMMU_UNMAP_DMA, "VFIO_IOMMU_UNMAP_DMA", ArgumentKind::sized_struct, minimum_of_unmap,
       unmap_dma},
      {VFIO_IOMMU_DIRTY_PAGES, "VFIO_IOMMU_DIRTY_PAGES", ArgumentKind::pointer, 0, dirty_pages},
  }};

private:
  /// The type that VFIO_SET_IOMMU asks for. The kernel offers the number to every IOMMU driver as
  /// an extension first (ENODEV if none has it), and only then as a type.
  static Result<Version> version_of(std::uint64_t type) {
    switch (type) {
    case VFIO_TYPE1_IOMMU:
      return Version::v1;
    case VFIO_TYPE1v2_IOMMU:
      return Version::v2;
    case VFIO_UNMAP_ALL:
      return fail(EINVAL, "an extension, not an IOMMU type");
    default:
      return fail(ENODEV, fmt::format("no IOMMU type {}", type));
    }
  }

  static Result<rules::MappingTable::Run>
  mappings_to_unmap(rules::AddressSpaceState &iommu, const vfio_iommu_type1_dma_unmap &unmap) {
    if ((unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0) {
      if (unmap.iova != 0 || unmap.size != 0)
        return fail(EINVAL, "unmap all with a range");
      return iommu.mappings.all();
    }
    return iommu.mappings.find_unmap(Iova{unmap.iova}, Bytes{unmap.size}, iommu.space.page_size(),
                                     iommu.version);
  }

  /// @return How much was unmapped.
  static Result<Bytes> unmap_without_bitmap(Container &container,
                                            const vfio_iommu_type1_dma_unmap &unmap) {
    const auto run = mappings_to_unmap(*container.iommu_, unmap);
    if (!run)
      return pass_on(run);
    if (!run->empty())
      VFIO_SHIM_TRY(take_away(container, *run));
    return run->size;
  }

  /// The mappings stay, and so do their pages: nobody looks them up again by their addresses in the
  /// client.
  /// @return The size of those concerned.
  static Result<Bytes> invalidate_vaddr(Container &container,
                                        const vfio_iommu_type1_dma_unmap &unmap) {
    const auto run = mappings_to_unmap(*container.iommu_, unmap);
    if (!run)
      return pass_on(run);
    if (std::any_of(run->begin, run->end,
                    [](const auto &entry) { return !entry.second.vaddr_valid; }))
      return fail(EINVAL, "a vaddr is invalid already");
    for (auto entry = run->begin; entry != run->end; ++entry) {
      entry->second.vaddr_valid = false;
      container.ledger_.vaddr_changed(container.record_, entry->second.record, std::nullopt);
    }
    return run->size;
  }

  static Result<long> update_vaddr(Container &container, const MapRequest &request) {
    auto &iommu = *container.iommu_;
    const auto found = iommu.mappings.find_without_vaddr(request, iommu.space.page_size());
    if (!found)
      return pass_on(found);
    auto &mapping = (*found)->second;
    mapping.vaddr = request.vaddr;
    mapping.vaddr_valid = true;
    container.ledger_.vaddr_changed(container.record_, mapping.record, mapping.vaddr);
    return 0;
  }

  /// Mapping by mapping, so that what a device writes is reported up to the last moment. If the
  /// client's bitmap ends too early, those before are gone, as in type1.
  /// @return How much was unmapped.
  static Result<Bytes> unmap_with_bitmap(Container &container, Client &client,
                                         const vfio_iommu_type1_dma_unmap &unmap,
                                         ClientAddr argument) {
    auto &iommu = *container.iommu_;
    if (unmap.flags != VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
      return fail(EINVAL, "a bitmap goes with no other flag");
    const auto bitmap = type1::read_unmap_bitmap(client, unmap, argument);
    if (!bitmap)
      return pass_on(bitmap);
    const auto run = mappings_to_unmap(iommu, unmap);
    if (!run)
      return pass_on(run);
    if (!iommu.tracking_dirty || bitmap->page_size != iommu.space.page_size())
      return fail(EINVAL, "not tracking, or not in the IOMMU's smallest page size");
    for (auto entry = run->begin; entry != run->end;) {
      VFIO_SHIM_TRY(
          type1::report_dirty(*container.backend_, client, *entry, *bitmap, AfterReport::keep));
      const auto next = std::next(entry);
      VFIO_SHIM_TRY(take_away(container, {.begin = entry, .end = next, .size = {}}));
      entry = next;
    }
    return run->size;
  }

  static Result<void> take_away(Container &container, const rules::MappingTable::Run &run) {
    VFIO_SHIM_TRY(container.backend_->unmap(run.range()));
    for (auto mapping = run.begin; mapping != run.end; ++mapping)
      container.ledger_.unmapped(container.record_, mapping->second.record);
    container.iommu_->mappings.erase(run);
    return {};
  }
};

Result<long> Container::call(Client &client, unsigned int command, std::uint64_t argument) {
  return type1::catching_bad_alloc([&]() -> Result<long> {
    if (const auto *operation = type1::find_operation(ContainerCalls::always, command)) {
      const Turn turn(*this); // None of these reads the client's memory.
      return type1::carry_out(*operation, *this, client, argument);
    }
    VFIO_SHIM_TRY(has_iommu());
    const auto *operation = type1::find_operation(ContainerCalls::with_iommu, command);
    if (operation == nullptr)
      return fail(ENOTTY, fmt::format("unknown ioctl {:#x}", command));
    // The client may make this wait for ever. Nobody else shall.
    const auto read = type1::read_argument(operation->kind, operation->minimum, client, argument);
    if (!read)
      return pass_on(read);
    const Turn turn(*this);
    if (!iommu_)
      return fail(EINVAL, "the last group has left");
    return operation->handle(*this, client, *read);
  });
}

Result<void> Container::has_iommu() {
  const Turn turn(*this);
  if (!iommu_)
    return fail(EINVAL, "needs VFIO_SET_IOMMU");
  return {};
}

std::string_view Container::call_name(unsigned int command) {
  if (const auto *operation = type1::find_operation(ContainerCalls::always, command))
    return operation->name;
  if (const auto *operation = type1::find_operation(ContainerCalls::with_iommu, command))
    return operation->name;
  return {};
}

} // namespace vfio_shim
