#include "cli/trace_text.hpp"

#include "cli/human.hpp"
#include "observe/statistics.hpp"
#include "observe/text.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/result.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <linux/vfio.h>

namespace vfio_shim::cli {

namespace {

using Names = std::span<const std::pair<std::uint64_t, std::string_view>>;

/// VFIO_CHECK_EXTENSION's numbers; the IOMMU types are among them.
constexpr std::array<std::pair<std::uint64_t, std::string_view>, 8> extensions = {{
    {VFIO_TYPE1_IOMMU, "VFIO_TYPE1_IOMMU"},
    {VFIO_SPAPR_TCE_IOMMU, "VFIO_SPAPR_TCE_IOMMU"},
    {VFIO_TYPE1v2_IOMMU, "VFIO_TYPE1v2_IOMMU"},
    {VFIO_DMA_CC_IOMMU, "VFIO_DMA_CC_IOMMU"},
    {VFIO_SPAPR_TCE_v2_IOMMU, "VFIO_SPAPR_TCE_v2_IOMMU"},
    {VFIO_NOIOMMU_IOMMU, "VFIO_NOIOMMU_IOMMU"},
    {VFIO_UNMAP_ALL, "VFIO_UNMAP_ALL"},
    {VFIO_UPDATE_VADDR, "VFIO_UPDATE_VADDR"},
}};

constexpr std::array<std::pair<std::uint64_t, std::string_view>, 3> map_flags = {{
    {VFIO_DMA_MAP_FLAG_READ, "r"},
    {VFIO_DMA_MAP_FLAG_WRITE, "w"},
    {VFIO_DMA_MAP_FLAG_VADDR, " new address only"},
}};

constexpr std::array<std::pair<std::uint64_t, std::string_view>, 3> unmap_flags = {{
    {VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, ", dirty bitmap"},
    {VFIO_DMA_UNMAP_FLAG_ALL, ", all"},
    {VFIO_DMA_UNMAP_FLAG_VADDR, ", address only"},
}};

constexpr std::array<std::pair<std::uint64_t, std::string_view>, 3> dirty_flags = {{
    {VFIO_IOMMU_DIRTY_PAGES_FLAG_START, "start "},
    {VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP, "stop "},
    {VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, "bitmap "},
}};

constexpr std::array<std::pair<std::uint64_t, std::string_view>, 2> group_flags = {{
    {VFIO_GROUP_FLAGS_VIABLE, "viable "},
    {VFIO_GROUP_FLAGS_CONTAINER_SET, "in a container "},
}};

std::string number_name(Names names, std::uint64_t number) {
  const auto found = std::ranges::find(names, number, &Names::value_type::first);
  return found != names.end() ? std::string(found->second) : fmt::format("{}", number);
}

std::string flag_names(Names names, std::uint64_t flags) {
  std::string text;
  for (const auto &[flag, name] : names) {
    if ((flags & flag) != 0)
      text += name;
    flags &= ~flag;
  }
  return flags != 0 ? fmt::format("{} flags {:#x}", text, flags) : text;
}

std::string trimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string map_text(const trace::Record &record) {
  const auto map = argument_of<vfio_iommu_type1_dma_map>(record);
  return fmt::format("iova {:#x}, {} at {:#x}, {}", std::uint64_t{map.iova},
                     human_bytes(Bytes{map.size}), std::uint64_t{map.vaddr},
                     flag_names(map_flags, map.flags));
}

std::string unmap_text(const trace::Record &record) {
  const auto unmap = argument_of<vfio_iommu_type1_dma_unmap>(record);
  return fmt::format("iova {:#x}, {}{}", std::uint64_t{unmap.iova}, human_bytes(Bytes{unmap.size}),
                     flag_names(unmap_flags, unmap.flags));
}

std::string dirty_text(const trace::Record &record) {
  const auto dirty = argument_of<vfio_iommu_type1_dirty_bitmap>(record);
  std::string text = trimmed(flag_names(dirty_flags, dirty.flags));
  if ((dirty.flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) == 0 ||
      record.was_read < sizeof(dirty) + sizeof(vfio_iommu_type1_dirty_bitmap_get))
    return text;
  vfio_iommu_type1_dirty_bitmap_get range{};
  std::memcpy(&range, record.before.data() + sizeof(dirty), sizeof(range));
  return fmt::format("{} of iova {:#x}, {}", text, std::uint64_t{range.iova},
                     human_bytes(Bytes{range.size}));
}

std::string stretch_text(const trace::Memory &memory) {
  std::string text =
      fmt::format("{} {}", human_bytes(Bytes{memory.size}), memory_kind_name(memory.kind));
  const bool by_itself_shared = memory.kind == static_cast<std::uint8_t>(MemoryKind::device);
  if ((memory.flags & trace::Memory::shared) != 0 && !by_itself_shared)
    text += " shared";
  if ((memory.flags & trace::Memory::by_file) != 0)
    text += " by file";
  return text;
}

} // namespace

std::string call_name(const trace::Record &record) {
  switch (record.kind) {
  case trace::Kind::open_container:
  case trace::Kind::open_group:
    return "open";
  case trace::Kind::close:
    return "close";
  default:
    return observe::command_name(record.command);
  }
}

std::string client_name(const trace::Record &record) {
  return observe::text_of(record.client);
}

std::string device_name(const trace::Record &record) {
  const auto bytes = std::span(record.before).first(record.was_read);
  return observe::text_of({reinterpret_cast<const char *>(bytes.data()), bytes.size()});
}

std::string file_text(const trace::Record &record) {
  return record.of_group != 0 ? fmt::format("group {}", record.group)
                              : fmt::format("container {}", record.file);
}

std::string argument_text(const trace::Record &record) {
  if (record.kind != trace::Kind::call)
    return {};
  switch (record.command) {
  case VFIO_GET_API_VERSION:
  case VFIO_IOMMU_GET_INFO:
  case VFIO_GROUP_GET_STATUS:
  case VFIO_GROUP_UNSET_CONTAINER:
    return {};
  case VFIO_CHECK_EXTENSION:
  case VFIO_SET_IOMMU:
    return number_name(extensions, record.argument);
  case VFIO_GROUP_SET_CONTAINER:
    return record.other != 0 ? fmt::format("container {}", record.other)
                             : fmt::format("descriptor {}", argument_of<int>(record));
  case VFIO_GROUP_GET_DEVICE_FD:
    return device_name(record);
  case VFIO_IOMMU_MAP_DMA:
    return map_text(record);
  case VFIO_IOMMU_UNMAP_DMA:
    return unmap_text(record);
  case VFIO_IOMMU_DIRTY_PAGES:
    return dirty_text(record);
  default:
    return fmt::format("{:#x}", record.argument);
  }
}

std::string result_text(const trace::Record &record) {
  if (record.error != 0)
    return errno_name(record.error);
  switch (record.kind == trace::Kind::call ? record.command : 0) {
  case VFIO_IOMMU_UNMAP_DMA:
    return human_bytes(Bytes{answer_of<vfio_iommu_type1_dma_unmap>(record).size});
  case VFIO_GROUP_GET_STATUS: {
    const auto flags = answer_of<vfio_group_status>(record).flags;
    return flags == 0 ? "not viable" : trimmed(flag_names(group_flags, flags));
  }
  case VFIO_IOMMU_GET_INFO:
    return fmt::format("page sizes {:#x}",
                       std::uint64_t{answer_of<vfio_iommu_type1_info>(record).iova_pgsizes});
  case VFIO_GROUP_GET_DEVICE_FD:
    return fmt::format("descriptor {}", record.result);
  default:
    return fmt::format("{}", record.result);
  }
}

std::string memory_text(const trace::Record &record) {
  std::string text;
  const auto shown = trace::known_memory(record);
  for (const trace::Memory &memory : shown)
    text += (text.empty() ? "" : " + ") + stretch_text(memory);
  if (record.stretches > shown.size())
    text += fmt::format(" + {} more", record.stretches - shown.size());
  return text;
}

std::string memory_kind_name(std::uint8_t kind) {
  switch (static_cast<MemoryKind>(kind)) {
  case MemoryKind::anonymous:
    return "anonymous";
  case MemoryKind::shmem:
    return "shmem";
  case MemoryKind::hugetlb:
    return "hugetlb";
  case MemoryKind::file:
    return "file";
  case MemoryKind::device:
    return "device";
  default:
    return "unknown";
  }
}

} // namespace vfio_shim::cli
