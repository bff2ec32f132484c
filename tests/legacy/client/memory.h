// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>

#include "fd.h"
#include "units.h"

namespace legacy {

/// The kinds of memory that programs hand to VFIO_IOMMU_MAP_DMA.
enum class MemoryKind {
  Anonymous,         ///< private anonymous, 4 KiB pages only
  AnonymousHuge,     ///< private anonymous with transparent huge pages
  AnonymousShared,   ///< MAP_SHARED | MAP_ANONYMOUS
  HugetlbAnonymous,  ///< MAP_HUGETLB, private
  HugetlbShared,     ///< memfd of 2 MiB pages, shared
  HugetlbPrivate,    ///< memfd of 2 MiB pages, private
  MemfdShared,       ///< memfd, shared
  MemfdPrivate,      ///< memfd, private
  ShmemFile,         ///< a file on /dev/shm, shared
  RegularFileShared, ///< a file in the temporary directory, shared
  RegularFilePrivate ///< a file in the temporary directory, private
};

inline constexpr std::array every_memory_kind{
    MemoryKind::Anonymous,         MemoryKind::AnonymousHuge,     MemoryKind::AnonymousShared,
    MemoryKind::HugetlbAnonymous,  MemoryKind::HugetlbShared,     MemoryKind::HugetlbPrivate,
    MemoryKind::MemfdShared,       MemoryKind::MemfdPrivate,      MemoryKind::ShmemFile,
    MemoryKind::RegularFileShared, MemoryKind::RegularFilePrivate};

/// "MemfdShared" and so on.
std::string to_string(MemoryKind kind);
std::ostream &operator<<(std::ostream &out, MemoryKind kind);
/// Whether `kind` lives in hugetlbfs, and so needs pages reserved.
bool needs_huge_pages(MemoryKind kind);

/// Memory of this process, for a device to read and write. Unmaps itself.
class Memory {
public:
  /// `size` bytes of `kind`, readable and writable, present and zero. Sizes of hugetlb kinds are
  /// multiples of 2 MiB; AnonymousHuge is aligned to 2 MiB. Throws std::system_error.
  static Memory allocate(MemoryKind kind, Bytes size);
  /// Private anonymous memory, 4 KiB pages.
  explicit Memory(Bytes size);
  /// Maps `size` bytes of `file` at file offset `offset`, with mmap's `protection` and `flags`.
  Memory(Fd file, Bytes size, int protection, int flags, Bytes offset = {0});

  Memory(Memory &&other) noexcept;
  Memory &operator=(Memory &&other) noexcept;
  ~Memory();

  std::byte *data() const { return data_; }
  std::byte *at(Bytes offset) const { return data_ + offset.count; }
  Bytes size() const { return size_; }
  std::span<std::byte> span(Bytes offset, Bytes size) const { return {at(offset), size.count}; }
  /// The file behind it; not open for anonymous kinds.
  const Fd &file() const { return file_; }

  /// mprotect(2) of a part. Throws std::system_error.
  void protect(Bytes offset, Bytes size, int protection) const;
  /// munmap(2) of a part, leaving a hole. Throws std::system_error.
  void punch_hole(Bytes offset, Bytes size) const;
  /// Unmaps all of it now.
  void release();

  /// Fills a part with bytes that depend on `seed`, and tells whether it still holds them.
  void fill(Bytes offset, Bytes size, std::uint32_t seed) const;
  bool holds(Bytes offset, Bytes size, std::uint32_t seed) const;

private:
  Memory(Fd file, std::byte *data, Bytes size) : file_{std::move(file)}, data_{data}, size_{size} {}
  static Memory anonymous_huge(Bytes size);

  Fd file_;
  std::byte *data_ = nullptr;
  Bytes size_;
};

/// A memfd of `size` bytes. `flags` as for memfd_create(2). Throws std::system_error.
Fd make_memfd(Bytes size, unsigned flags = 0);
/// An unlinked file of `size` bytes of zeros in `directory`. Throws std::system_error.
Fd make_unlinked_file(const std::string &directory, Bytes size);
/// The directory for temporary files: TMPDIR, or /tmp.
std::string temporary_directory();

/// Reserves 2 MiB huge pages for its lifetime if not enough are free, and then gives them back.
class HugePageReserve {
public:
  explicit HugePageReserve(std::uint64_t pages);
  HugePageReserve(const HugePageReserve &) = delete;
  ~HugePageReserve();

  /// Huge pages free now, of the whole machine.
  static std::uint64_t free_pages();

private:
  std::uint64_t before_ = 0;
  bool raised_ = false;
};

/// `size` bytes at the very end of mapped memory: the byte after them is not mapped. For arguments
/// that a kernel must neither read nor write beyond.
class EdgeBuffer {
public:
  explicit EdgeBuffer(Bytes size);

  std::byte *data() const { return memory_.at(page - size_); }
  /// Makes it read-only from here on.
  void make_read_only() const;

  /// Copies the first bytes of `value` in, as many as fit.
  template <typename T>
  void put(const T &value) const {
    put_bytes(std::as_bytes(std::span{&value, 1}));
  }
  /// Reads a T from its start; what lies beyond its end reads as zero.
  template <typename T>
  T get() const {
    T value{};
    get_bytes(std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }

private:
  void put_bytes(std::span<const std::byte> bytes) const;
  void get_bytes(std::span<std::byte> bytes) const;

  Bytes size_;
  Memory memory_;
};

} // namespace legacy
