// SPDX-License-Identifier: MIT
/// @file
/// Memory whose end is known: what lies before and behind it cannot be accessed.
#pragma once

#include "vfio_shim/client.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

#include <sys/mman.h>

namespace vfio_shim::test {

inline constexpr std::size_t page_size = 4096;

/// The client's view of something in this process.
inline ClientAddr address_of(const void *object) {
  return ClientAddr{reinterpret_cast<std::uintptr_t>(object)};
}

/// Whole pages between two that nobody may access.
class Pages {
public:
  explicit Pages(std::size_t count = 1) : count_(count) {
    void *all =
        ::mmap(nullptr, (count + 2) * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
      throw std::bad_alloc();
    start_ = static_cast<std::byte *>(all) + page_size;
    protect(PROT_READ | PROT_WRITE);
  }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;
  ~Pages() { ::munmap(start_ - page_size, (count_ + 2) * page_size); }

  std::byte *begin() const { return start_; }
  std::byte *end() const { return start_ + size(); }
  std::size_t size() const { return count_ * page_size; }
  std::span<std::byte> bytes() const { return {start_, size()}; }

  void protect(int protection) const { ::mprotect(start_, size(), protection); }

  /// Puts the first @p size bytes of @p object at the very end. @return Where.
  template <typename Object>
  std::byte *put_at_end(const Object &object, std::size_t size = sizeof(Object)) const {
    std::memcpy(end() - size, &object, size);
    return end() - size;
  }

private:
  std::size_t count_;
  std::byte *start_;
};

} // namespace vfio_shim::test
