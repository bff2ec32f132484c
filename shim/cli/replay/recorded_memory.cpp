// SPDX-License-Identifier: MIT
#include "cli/replay/recorded_memory.hpp"

#include "cli/human.hpp"
#include "cli/trace_text.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/fd.hpp"

#include <algorithm>
#include <bit>
#include <optional>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

namespace vfio_shim::cli {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t small_alignment = 2UL << 20U;
constexpr std::uint64_t large_alignment = 1UL << 30U;

std::uint64_t page_start(std::uint64_t address) {
  return address & ~(page - 1);
}
std::uint64_t page_end(std::uint64_t address) {
  return (address + page - 1) & ~(page - 1);
}

/// What the record maps, if something is known of that memory.
std::optional<rules::MapDma> mapped_memory(const trace::Record &record) {
  const auto call = trace::call_of(record);
  const auto *map = std::get_if<rules::MapDma>(&call);
  if (map == nullptr || record.stretches == 0 || map->size == Bytes{} ||
      map->vaddr + map->size <= map->vaddr)
    return std::nullopt;
  return *map;
}

void *at(std::uint64_t address) {
  return reinterpret_cast<void *>(address); // NOLINT(performance-no-int-to-ptr)
}

/// A file whose pages are of the kind that the recorded ones were.
Fd file_for(const trace::Memory &memory) {
  switch (static_cast<MemoryKind>(memory.kind)) {
  case MemoryKind::shmem:
    return Fd{::memfd_create("vfio-shim-replay", MFD_CLOEXEC)};
  case MemoryKind::hugetlb:
    return Fd{::memfd_create("vfio-shim-replay",
                             MFD_CLOEXEC | MFD_HUGETLB |
                                 static_cast<unsigned>(std::countr_zero(memory.page_size))
                                     << MAP_HUGE_SHIFT)};
  case MemoryKind::file:
    return Fd{::open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  default:
    return {};
  }
}

/// What the recorded process could do with memory that it could not map this way: what it could not
/// write, it could read.
int protection_of(const trace::Record &record, const rules::MapDma &map) {
  if (record.error != EFAULT)
    return PROT_READ | PROT_WRITE;
  return map.access().write ? PROT_READ : PROT_NONE;
}

Result<void> lay(const trace::Memory &memory, int protection, std::uint64_t address) {
  const auto kind = static_cast<MemoryKind>(memory.kind);
  if (kind == MemoryKind::unknown || kind == MemoryKind::device)
    return {};
  const auto failed = [&](const char *what) {
    return fail(errno, fmt::format("cannot make {} of {} memory as it was recorded: {}: {}{}",
                                   human_bytes(Bytes{memory.size}), memory_kind_name(memory.kind),
                                   what, errno_name(errno),
                                   kind == MemoryKind::hugetlb ? " (vm.nr_hugepages?)" : ""));
  };
  int flags = MAP_FIXED | MAP_NORESERVE;
  flags |= (memory.flags & trace::Memory::shared) != 0 ? MAP_SHARED : MAP_PRIVATE;
  Fd file;
  if (kind == MemoryKind::anonymous) {
    flags |= MAP_ANONYMOUS;
  } else {
    file = file_for(memory);
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(memory.size)) != 0)
      return failed("its file");
  }
  if (::mmap(at(address), memory.size, protection, flags, file.get(), 0) == MAP_FAILED)
    return failed("mmap");
  return {};
}

} // namespace

Result<RecordedMemory> RecordedMemory::reserve(const observe::Recording &recording) {
  RecordedMemory memory;
  for (const trace::Record &record : recording.records)
    if (const auto map = mapped_memory(record))
      memory.arenas_[Pid{record.pid}].push_back(
          {.first = page_start(map->vaddr.value), .end = page_end((map->vaddr + map->size).value)});
  for (auto &[process, arenas] : memory.arenas_) {
    std::ranges::sort(arenas, {}, &Arena::first);
    std::vector<Arena> joined;
    for (const Arena &arena : arenas)
      if (!joined.empty() && arena.first <= joined.back().end)
        joined.back().end = std::max(joined.back().end, arena.end);
      else
        joined.push_back(arena);
    for (Arena &arena : joined)
      VFIO_SHIM_TRY(place(arena));
    arenas = std::move(joined);
  }
  return memory;
}

Result<void> RecordedMemory::place(Arena &arena) {
  const std::uint64_t size = arena.end - arena.first;
  const std::uint64_t alignment = size >= large_alignment ? large_alignment : small_alignment;
  arena.reserved_size = size + alignment;
  void *reserved = ::mmap(nullptr, arena.reserved_size, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED)
    return fail(
        errno, fmt::format("no address space for {} of recorded memory", human_bytes(Bytes{size})));
  arena.reserved = reinterpret_cast<std::uint64_t>(reserved);
  arena.here = arena.reserved + (arena.first - arena.reserved) % alignment;
  return {};
}

bool RecordedMemory::Content::operator==(const Content &other) const {
  return protection == other.protection && memory.size == other.memory.size &&
         memory.page_size == other.memory.page_size && memory.kind == other.memory.kind &&
         memory.flags == other.memory.flags;
}

RecordedMemory::~RecordedMemory() {
  for (const auto &[process, arenas] : arenas_)
    for (const Arena &arena : arenas)
      ::munmap(at(arena.reserved), arena.reserved_size);
}

Result<void> RecordedMemory::provide(const trace::Record &record) {
  const auto map = mapped_memory(record);
  if (!map)
    return {};
  const std::uint64_t first = page_start(map->vaddr.value);
  std::uint64_t address = address_of(Pid{record.pid}, first);
  const std::uint64_t end = address + page_end((map->vaddr + map->size).value) - first;
  const auto known = trace::known_memory(record);
  for (std::size_t i = 0; i < known.size() && address < end; ++i) {
    trace::Memory memory = known[i];
    // The last one known stands for those that the record has no room for.
    if (i + 1 == known.size() || address + memory.size > end)
      memory.size = end - address;
    const Content content{.memory = memory, .protection = protection_of(record, *map)};
    Content &there = there_[address];
    if (!(there == content)) {
      VFIO_SHIM_TRY(lay(content.memory, content.protection, address));
      there = content;
    }
    address += memory.size;
  }
  return {};
}

const RecordedMemory::Arena *RecordedMemory::find(Pid process, std::uint64_t address) const {
  const auto arenas = arenas_.find(process);
  if (arenas == arenas_.end())
    return nullptr;
  const auto found = std::ranges::find_if(arenas->second, [address](const Arena &arena) {
    return address >= arena.first && address < arena.end;
  });
  return found == arenas->second.end() ? nullptr : &*found;
}

std::uint64_t RecordedMemory::address_of(Pid process, std::uint64_t address) const {
  const Arena *arena = find(process, address);
  return arena == nullptr ? address : arena->here + (address - arena->first);
}

} // namespace vfio_shim::cli
