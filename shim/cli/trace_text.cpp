// SPDX-License-Identifier: MIT
#include "cli/trace_text.hpp"

#include "cli/human.hpp"
#include "observe/statistics.hpp"
#include "observe/text.hpp"
#include "rules/match.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/result.hpp"

#include <initializer_list>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

/// A flag, and what it is called.
using Flag = std::pair<bool, std::string_view>;

/// The names of those that are set, and the number of those that have none.
std::string flag_names(std::initializer_list<Flag> flags, std::uint32_t unknown) {
  std::string text;
  for (const auto &[is_set, name] : flags)
    if (is_set)
      text += name;
  return unknown != 0 ? fmt::format("{} flags {:#x}", text, unknown) : text;
}

std::string trimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string extension_text(std::uint64_t extension) {
  const auto name = rules::extension_name(extension);
  return name.empty() ? fmt::format("{}", extension) : std::string(name);
}

std::string map_text(const rules::MapDma &map) {
  return fmt::format("iova {:#x}, {} at {:#x}, {}", map.iova.value, human_bytes(map.size),
                     map.vaddr.value,
                     flag_names({{map.access().read, "r"},
                                 {map.access().write, "w"},
                                 {map.vaddr_only(), " new address only"}},
                                map.unknown_flags()));
}

std::string unmap_text(const rules::UnmapDma &unmap) {
  return fmt::format("iova {:#x}, {}{}", unmap.iova.value, human_bytes(unmap.size),
                     flag_names({{unmap.gets_bitmap(), ", dirty bitmap"},
                                 {unmap.all(), ", all"},
                                 {unmap.vaddr_only(), ", address only"}},
                                unmap.unknown_flags()));
}

std::string dirty_text(const rules::DirtyPages &dirty) {
  const std::string text = trimmed(flag_names(
      {{dirty.starts(), "start "}, {dirty.stops(), "stop "}, {dirty.gets_bitmap(), "bitmap "}},
      dirty.unknown_flags()));
  if (!dirty.range)
    return text;
  return fmt::format("{} of iova {:#x}, {}", text, dirty.range->iova.value,
                     human_bytes(dirty.range->size));
}

std::string status_text(const rules::GetStatus &status) {
  if (status.flags == 0)
    return "not viable";
  return trimmed(
      flag_names({{status.viable(), "viable "}, {status.in_container(), "in a container "}},
                 status.unknown_flags()));
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

std::string file_text(const trace::Record &record) {
  return record.of_group != 0 ? fmt::format("group {}", record.group)
                              : fmt::format("container {}", record.file);
}

std::string argument_text(const trace::Record &record) {
  if (record.kind != trace::Kind::call)
    return {};
  return rules::match(
      trace::call_of(record),
      [](const rules::CheckExtension &check) { return extension_text(check.extension); },
      [](const rules::SetIommu &set) { return extension_text(set.type); },
      [](const rules::MapDma &map) { return map_text(map); },
      [](const rules::UnmapDma &unmap) { return unmap_text(unmap); },
      [](const rules::DirtyPages &dirty) { return dirty_text(dirty); },
      [&](const rules::SetContainer &set) {
        return record.other != 0 ? fmt::format("container {}", record.other)
                                 : fmt::format("descriptor {}", set.container.value);
      },
      [](const rules::GetDeviceFd &get) { return get.text; },
      [&](const rules::UnknownCall & /*call*/) { return fmt::format("{:#x}", record.argument); },
      [](const auto & /*asks nothing*/) { return std::string(); });
}

std::string result_text(const trace::Record &record) {
  if (record.error != 0)
    return errno_name(record.error);
  return rules::match(
      trace::answer_of(record),
      [](const rules::UnmapDma &unmap) { return human_bytes(unmap.size); },
      [](const rules::GetStatus &status) { return status_text(status); },
      [](const rules::GetInfo &info) { return fmt::format("page sizes {:#x}", info.page_sizes); },
      [&](const rules::GetDeviceFd & /*call*/) {
        return fmt::format("descriptor {}", record.result);
      },
      [&](const auto & /*a number*/) { return fmt::format("{}", record.result); });
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
