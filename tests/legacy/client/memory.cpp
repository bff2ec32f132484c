// SPDX-License-Identifier: MIT
#include "memory.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <ostream>
#include <stdexcept>

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace legacy {
namespace {

constexpr const char *huge_pages_wanted = "/proc/sys/vm/nr_hugepages";
constexpr int read_write = PROT_READ | PROT_WRITE;

std::byte *map_or_throw(const Fd &file, Bytes size, int protection, int flags, Bytes offset) {
  void *mapped = ::mmap(nullptr, size.count, protection, flags, file.number(),
                        static_cast<off_t>(offset.count));
  if (mapped == MAP_FAILED)
    throw_errno("mmap of " + std::to_string(size.count) + " bytes");
  return static_cast<std::byte *>(mapped);
}

void advise(std::byte *data, Bytes size, int advice, const char *what) {
  Answer::of(::madvise(data, size.count, advice)).or_throw(what);
}

/// Writes to every page, so that none is missing or shared with the zero page.
void touch(const Memory &memory) {
  std::memset(memory.data(), 0, memory.size().count);
}

std::uint64_t read_number(const char *path) {
  std::uint64_t number = 0;
  std::ifstream{path} >> number;
  return number;
}

std::byte pattern_at(std::uint64_t index, std::uint32_t seed) {
  // The seed goes into the high bits, which are the ones that count.
  return static_cast<std::byte>(((index + (std::uint64_t{seed} << 32)) * 0x9e3779b97f4a7c15ull) >>
                                56);
}

} // namespace

std::string to_string(MemoryKind kind) {
  switch (kind) {
  case MemoryKind::Anonymous:
    return "Anonymous";
  case MemoryKind::AnonymousHuge:
    return "AnonymousHuge";
  case MemoryKind::AnonymousShared:
    return "AnonymousShared";
  case MemoryKind::HugetlbAnonymous:
    return "HugetlbAnonymous";
  case MemoryKind::HugetlbShared:
    return "HugetlbShared";
  case MemoryKind::HugetlbPrivate:
    return "HugetlbPrivate";
  case MemoryKind::MemfdShared:
    return "MemfdShared";
  case MemoryKind::MemfdPrivate:
    return "MemfdPrivate";
  case MemoryKind::ShmemFile:
    return "ShmemFile";
  case MemoryKind::RegularFileShared:
    return "RegularFileShared";
  case MemoryKind::RegularFilePrivate:
    return "RegularFilePrivate";
  }
  return "?";
}

std::ostream &operator<<(std::ostream &out, MemoryKind kind) {
  return out << to_string(kind);
}

bool needs_huge_pages(MemoryKind kind) {
  return kind == MemoryKind::HugetlbAnonymous || kind == MemoryKind::HugetlbShared ||
         kind == MemoryKind::HugetlbPrivate;
}

Memory Memory::allocate(MemoryKind kind, Bytes size) {
  constexpr unsigned huge_memfd = MFD_HUGETLB | MFD_HUGE_2MB;
  const auto of = [&](Fd file, int flags) {
    Memory memory{std::move(file), size, read_write, flags};
    touch(memory);
    return memory;
  };
  switch (kind) {
  case MemoryKind::Anonymous:
    return Memory{size};
  case MemoryKind::AnonymousHuge:
    return anonymous_huge(size);
  case MemoryKind::AnonymousShared:
    return of({}, MAP_SHARED | MAP_ANONYMOUS);
  case MemoryKind::HugetlbAnonymous:
    return of({}, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
  case MemoryKind::HugetlbShared:
    return of(make_memfd(size, huge_memfd), MAP_SHARED);
  case MemoryKind::HugetlbPrivate:
    return of(make_memfd(size, huge_memfd), MAP_PRIVATE);
  case MemoryKind::MemfdShared:
    return of(make_memfd(size), MAP_SHARED);
  case MemoryKind::MemfdPrivate:
    return of(make_memfd(size), MAP_PRIVATE);
  case MemoryKind::ShmemFile:
    return of(make_unlinked_file("/dev/shm", size), MAP_SHARED);
  case MemoryKind::RegularFileShared:
    return of(make_unlinked_file(temporary_directory(), size), MAP_SHARED);
  case MemoryKind::RegularFilePrivate:
    return of(make_unlinked_file(temporary_directory(), size), MAP_PRIVATE);
  }
  throw std::logic_error{"no such kind of memory"};
}

Memory::Memory(Bytes size)
    : data_{map_or_throw({}, size, read_write, MAP_PRIVATE | MAP_ANONYMOUS, {0})}, size_{size} {
  advise(data_, size_, MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  touch(*this);
}

Memory::Memory(Fd file, Bytes size, int protection, int flags, Bytes offset)
    : file_{std::move(file)},
      data_{map_or_throw(file_, size, protection, flags, offset)},
      size_{size} {}

Memory Memory::anonymous_huge(Bytes size) {
  const Bytes roomy = size + huge_page;
  std::byte *start = map_or_throw({}, roomy, read_write, MAP_PRIVATE | MAP_ANONYMOUS, {0});
  const auto address = reinterpret_cast<std::uint64_t>(start);
  const Bytes before{(huge_page.count - address % huge_page.count) % huge_page.count};
  const Bytes after = roomy - before - size;
  if (before.count != 0)
    ::munmap(start, before.count);
  if (after.count != 0)
    ::munmap(start + before.count + size.count, after.count);
  Memory memory{Fd{}, start + before.count, size};
  advise(memory.data(), size, MADV_HUGEPAGE, "madvise MADV_HUGEPAGE");
  touch(memory);
  return memory;
}

Memory::Memory(Memory &&other) noexcept
    : file_{std::move(other.file_)},
      data_{std::exchange(other.data_, nullptr)},
      size_{other.size_} {}

Memory &Memory::operator=(Memory &&other) noexcept {
  if (this != &other) {
    release();
    file_ = std::move(other.file_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = other.size_;
  }
  return *this;
}

Memory::~Memory() {
  release();
}

void Memory::release() {
  if (data_ != nullptr)
    ::munmap(std::exchange(data_, nullptr), size_.count);
}

void Memory::protect(Bytes offset, Bytes size, int protection) const {
  Answer::of(::mprotect(at(offset), size.count, protection)).or_throw("mprotect");
}

void Memory::punch_hole(Bytes offset, Bytes size) const {
  Answer::of(::munmap(at(offset), size.count)).or_throw("munmap");
}

void Memory::fill(Bytes offset, Bytes size, std::uint32_t seed) const {
  std::uint64_t index = 0;
  for (std::byte &byte : span(offset, size))
    byte = pattern_at(index++, seed);
}

bool Memory::holds(Bytes offset, Bytes size, std::uint32_t seed) const {
  const auto bytes = span(offset, size);
  std::uint64_t index = 0;
  return std::all_of(bytes.begin(), bytes.end(),
                     [&](std::byte byte) { return byte == pattern_at(index++, seed); });
}

Fd make_memfd(Bytes size, unsigned flags) {
  Fd file{static_cast<int>(
      Answer::of(::memfd_create("legacy-client", flags | MFD_CLOEXEC)).or_throw("memfd_create"))};
  Answer::of(::ftruncate(file.number(), static_cast<off_t>(size.count))).or_throw("ftruncate");
  return file;
}

Fd make_unlinked_file(const std::string &directory, Bytes size) {
  std::string path = directory + "/legacy-client-XXXXXX";
  Fd file{static_cast<int>(
      Answer::of(::mkostemp(path.data(), O_CLOEXEC)).or_throw("make a file in " + directory))};
  ::unlink(path.c_str());
  Answer::of(::ftruncate(file.number(), static_cast<off_t>(size.count))).or_throw("ftruncate");
  return file;
}

std::string temporary_directory() {
  const char *directory = std::getenv("TMPDIR");
  return directory != nullptr ? directory : "/tmp";
}

HugePageReserve::HugePageReserve(std::uint64_t pages) {
  const std::uint64_t free = free_pages();
  if (free >= pages)
    return;
  before_ = read_number(huge_pages_wanted);
  std::ofstream{huge_pages_wanted} << before_ + pages - free;
  raised_ = true;
}

HugePageReserve::~HugePageReserve() {
  if (raised_)
    std::ofstream{huge_pages_wanted} << before_;
}

std::uint64_t HugePageReserve::free_pages() {
  return read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
}

EdgeBuffer::EdgeBuffer(Bytes size) : size_{size}, memory_{page * 2} {
  if (size > page)
    throw std::logic_error{"an edge buffer is at most a page"};
  memory_.punch_hole(page, page);
}

void EdgeBuffer::make_read_only() const {
  memory_.protect({0}, page, PROT_READ);
}

void EdgeBuffer::put_bytes(std::span<const std::byte> bytes) const {
  std::memcpy(data(), bytes.data(), std::min<std::size_t>(bytes.size(), size_.count));
}

void EdgeBuffer::get_bytes(std::span<std::byte> bytes) const {
  std::memcpy(bytes.data(), data(), std::min<std::size_t>(bytes.size(), size_.count));
}

} // namespace legacy
