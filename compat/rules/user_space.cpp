// SPDX-License-Identifier: MIT
#include "rules/user_space.hpp"

#include <cerrno>

#include <sys/mman.h>

namespace vfio_shim::rules {

namespace {

constexpr std::uint64_t page_size = 4096;

/// With five levels of page tables, a process that asks gets memory above the four levels' reach.
bool five_level_page_tables() {
  constexpr std::uint64_t above_four_levels = std::uint64_t{1} << 47;
  void *const wanted = reinterpret_cast<void *>(above_four_levels);
  void *const mapped =
      ::mmap(wanted, page_size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (mapped == MAP_FAILED)
    return errno == EEXIST;
  ::munmap(mapped, page_size);
  return mapped == wanted;
}

/// USER_PTR_MAX in the kernel's arch/x86/kernel/cpu/common.c.
std::uint64_t user_space_limit() {
  return (std::uint64_t{1} << (five_level_page_tables() ? 56 : 47)) - page_size;
}

} // namespace

bool within_user_space(ClientAddr start, Bytes size) {
  static const std::uint64_t limit = user_space_limit();
  const std::uint64_t end = start.value + size.value;
  return end >= start.value && end <= limit;
}

} // namespace vfio_shim::rules
