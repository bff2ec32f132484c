// SPDX-License-Identifier: MIT
#include "memory_pool.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

namespace twin {
namespace {

using legacy::Answer;
using legacy::Bytes;
using legacy::Fd;

constexpr int read_write = PROT_READ | PROT_WRITE;

/// A run of pages of one kind.
struct Area {
  std::string_view kind;
  std::int64_t pages;
  /// mmap's; no mapping at all without flags.
  int flags;
  int protection;
  /// Which descriptor is mapped, if any.
  enum class File { None, ReadWrite, ReadOnly } file;
};

constexpr std::array areas{
    Area{"private", 12, MAP_PRIVATE | MAP_ANONYMOUS, read_write, Area::File::None},
    Area{"shared file", 8, MAP_SHARED, read_write, Area::File::ReadWrite},
    Area{"private copy of a file", 8, MAP_PRIVATE, read_write, Area::File::ReadWrite},
    Area{"private, read-only", 4, MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ, Area::File::None},
    Area{"shared file, read-only", 4, MAP_SHARED, PROT_READ, Area::File::ReadWrite},
    Area{"nothing", 4, 0, 0, Area::File::None},
    Area{"no access", 4, MAP_PRIVATE | MAP_ANONYMOUS, PROT_NONE, Area::File::None},
    Area{"write-only", 4, MAP_PRIVATE | MAP_ANONYMOUS, PROT_WRITE, Area::File::None},
    Area{"shared, no file", 4, MAP_SHARED | MAP_ANONYMOUS, read_write, Area::File::None},
    Area{"shared file opened for reading", 4, MAP_SHARED, PROT_READ, Area::File::ReadOnly},
    Area{"private", 8, MAP_PRIVATE | MAP_ANONYMOUS, read_write, Area::File::None},
};

constexpr std::int64_t sum_of_pages() {
  std::int64_t sum = 0;
  for (const Area &area : areas)
    sum += area.pages;
  return sum;
}
static_assert(sum_of_pages() == MemoryPool::ordinary_pages);

constexpr Bytes ordinary_size = legacy::page * MemoryPool::ordinary_pages;

std::byte *map_at(std::byte *where, Bytes size, int protection, int flags, int fd,
                  std::uint64_t offset) {
  void *mapped = ::mmap(where, size.count, protection, flags, fd, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED)
    legacy::throw_errno("mmap for the memory pool");
  return static_cast<std::byte *>(mapped);
}

/// Different bytes on every page.
void fill(std::byte *page, std::uint32_t seed) {
  std::array<std::uint64_t, legacy::page.count / sizeof(std::uint64_t)> words;
  std::uint64_t word = (std::uint64_t{seed} << 32 | 1) * 0x9e3779b97f4a7c15ull;
  for (std::uint64_t &each : words)
    each = word += 0x9e3779b97f4a7c15ull;
  std::memcpy(page, words.data(), sizeof(words));
}

using Page = std::array<std::byte, legacy::page.count>;

/// Copies without regard to what the program itself may touch: an answer, not a signal.
Answer copy(std::byte *buffer, std::byte *page, decltype(::process_vm_readv) process_vm) {
  const iovec local{buffer, legacy::page.count};
  const iovec remote{page, legacy::page.count};
  return Answer::of(process_vm(::getpid(), &local, 1, &remote, 1, 0));
}

} // namespace

std::string_view MemoryPool::kind_of(std::int64_t page) {
  if (page >= ordinary_pages)
    return page < pages ? "huge page" : "beyond the pool";
  for (const Area &area : areas) {
    if (page < area.pages)
      return page < 0 ? "beyond the pool" : area.kind;
    page -= area.pages;
  }
  return "beyond the pool";
}

MemoryPool::MemoryPool()
    : file_{legacy::make_memfd(ordinary_size)},
      huge_file_{legacy::make_memfd(legacy::huge_page, MFD_HUGETLB | MFD_HUGE_2MB)},
      // Aligned, and with a huge page's room on both sides where nothing else will come to lie.
      reserved_{
          map_at(nullptr, legacy::huge_page * 5, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)} {
  const auto start = reinterpret_cast<std::uint64_t>(reserved_);
  const auto huge = (start / legacy::huge_page.count + 2) * legacy::huge_page.count;
  base_ = reserved_ + (huge - start) - ordinary_size.count;
  map_at(page(ordinary_pages), legacy::huge_page, read_write, MAP_SHARED | MAP_FIXED,
         huge_file_.number(), 0);
  fill_huge_page();
  map_ordinary_pages();
}

MemoryPool::~MemoryPool() {
  ::munmap(reserved_, (legacy::huge_page * 5).count);
}

Answer MemoryPool::write(std::int64_t number, std::uint32_t seed) {
  Page bytes;
  fill(bytes.data(), seed);
  huge_written_ |= number >= ordinary_pages;
  return copy(bytes.data(), page(number), ::process_vm_writev);
}

Answer MemoryPool::change(std::int64_t first, std::int64_t count, int protection) {
  const std::size_t size = count * legacy::page.count;
  return Answer::of(protection == 0 ? ::munmap(page(first), size)
                                    : ::mprotect(page(first), size, protection));
}

void MemoryPool::reset() {
  // A new file: what a device still holds of the old one is not ours any more.
  file_ = legacy::make_memfd(ordinary_size);
  map_ordinary_pages();
  if (huge_written_)
    fill_huge_page();
  huge_written_ = false;
}

std::optional<std::int64_t> MemoryPool::first_difference(const MemoryPool &other) const {
  for (std::int64_t number = 0; number < ordinary_pages; ++number) {
    Page ours{};
    Page theirs{};
    const Answer readable = copy(ours.data(), page(number), ::process_vm_readv);
    if (readable != copy(theirs.data(), other.page(number), ::process_vm_readv) || ours != theirs)
      return number;
  }
  for (std::int64_t number = ordinary_pages; number < pages; ++number)
    if (std::memcmp(page(number), other.page(number), legacy::page.count) != 0)
      return number;
  return std::nullopt;
}

void MemoryPool::map_ordinary_pages() const {
  const Fd read_only = Fd::open("/proc/self/fd/" + std::to_string(file_.number()), O_RDONLY);
  for (std::int64_t number = 0; number < ordinary_pages; ++number) {
    Page bytes;
    fill(bytes.data(), static_cast<std::uint32_t>(number));
    Answer::of(::pwrite(file_.number(), bytes.data(), bytes.size(),
                        static_cast<off_t>(number * legacy::page.count)))
        .or_throw("fill the pool's file");
  }
  std::int64_t first = 0;
  for (const Area &area : areas) {
    const Bytes size = legacy::page * area.pages;
    // Anonymous pages that only a write makes are written before they are protected.
    const bool fillable = area.file == Area::File::None && area.flags != 0;
    const int fd = area.file == Area::File::None        ? -1
                   : area.file == Area::File::ReadWrite ? file_.number()
                                                        : read_only.number();
    if (area.flags == 0)
      map_at(page(first), size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    else
      map_at(page(first), size, fillable ? read_write : area.protection, area.flags | MAP_FIXED, fd,
             first * legacy::page.count);
    for (std::int64_t number = first; fillable && number < first + area.pages; ++number)
      fill(page(number), static_cast<std::uint32_t>(number));
    if (fillable)
      Answer::of(::mprotect(page(first), size.count, area.protection)).or_throw("mprotect");
    if (area.flags == 0)
      Answer::of(::munmap(page(first), size.count)).or_throw("munmap");
    first += area.pages;
  }
}

void MemoryPool::fill_huge_page() const {
  for (std::int64_t number = ordinary_pages; number < pages; ++number)
    fill(page(number), static_cast<std::uint32_t>(number));
}

} // namespace twin
