// SPDX-License-Identifier: MIT
/// @file
/// PROCMAP_QUERY on `/proc/<pid>/maps` (Linux 6.11): one VMA by address, without reading the file.
///
/// Source: include/uapi/linux/fs.h.
#pragma once

#include <cstdint>

#include <sys/ioctl.h>

namespace vfio_shim::abi {

struct ProcmapQuery {
  std::uint64_t size = sizeof(ProcmapQuery);
  std::uint64_t query_flags = 0;
  std::uint64_t query_addr = 0;
  std::uint64_t vma_start = 0;
  std::uint64_t vma_end = 0;
  std::uint64_t vma_flags = 0;
  std::uint64_t vma_page_size = 0;
  std::uint64_t vma_offset = 0; ///< File offset of vma_start, bytes.
  std::uint64_t inode = 0;      ///< 0: no file.
  std::uint32_t dev_major = 0;
  std::uint32_t dev_minor = 0;
  std::uint32_t vma_name_size = 0;
  std::uint32_t build_id_size = 0;
  std::uint64_t vma_name_addr = 0;
  std::uint64_t build_id_addr = 0;
};
static_assert(sizeof(ProcmapQuery) == 104);

inline constexpr unsigned long procmap_query = _IOWR('f', 17, ProcmapQuery);
inline constexpr std::uint64_t procmap_vma_readable = 0x01;
inline constexpr std::uint64_t procmap_vma_writable = 0x02;
inline constexpr std::uint64_t procmap_vma_shared = 0x08;

} // namespace vfio_shim::abi
