// SPDX-License-Identifier: MIT
#pragma once

#include "client/fd.h"
#include "client/memory.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace twin {

/// The memory that a twin's operations are about: one run of pages, of every kind that matters, so
/// that a range can reach from one kind into the next. Both twins have the same kinds at the same
/// page numbers, at addresses of their own.
class MemoryPool {
public:
  /// Ordinary pages, of all kinds; behind them follows one huge page.
  static constexpr std::int64_t ordinary_pages = 64;
  static constexpr std::int64_t pages = ordinary_pages + 512;

  /// "private", "shared file" and so on; "beyond the pool" for other numbers.
  static std::string_view kind_of(std::int64_t page);

  /// Throws std::system_error when there is no memory, or no huge page.
  MemoryPool();
  MemoryPool(const MemoryPool &) = delete;
  MemoryPool &operator=(const MemoryPool &) = delete;
  ~MemoryPool();

  /// Any number will do, also beyond the pool.
  std::byte *page(std::int64_t number) const { return base_ + number * legacy::page.count; }

  /// Writes bytes that depend on `seed` to a page, if it can be written to.
  legacy::Answer write(std::int64_t page, std::uint32_t seed);
  /// mprotect(2) or, for protection 0, munmap(2) of ordinary pages.
  legacy::Answer change(std::int64_t page, std::int64_t count, int protection);
  /// To be called when a device may have written here.
  void written_by_dma() { huge_written_ = true; }

  /// Makes everything as it was at the beginning, with fresh pages.
  void reset();

  /// The first page that holds other bytes than the other pool's, or that only one of them can
  /// read.
  std::optional<std::int64_t> first_difference(const MemoryPool &other) const;

private:
  void map_ordinary_pages() const;
  void fill_huge_page() const;

  legacy::Fd file_;
  legacy::Fd huge_file_;
  std::byte *reserved_;
  std::byte *base_;
  bool huge_written_ = false;
};

} // namespace twin
