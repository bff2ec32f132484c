#include "client/memory_map.hpp"

#include "abi/procmap.hpp"

#include <algorithm>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

namespace vfio_shim::client {

namespace {

constexpr std::uint64_t page_size = 4096;

/// The VMA that contains @p address, if one does and the kernel can be asked.
std::optional<abi::ProcmapQuery> find_vma(const Fd &maps, std::uint64_t address) {
  abi::ProcmapQuery query{.query_addr = address};
  if (::ioctl(maps.get(), abi::procmap_query, &query) != 0)
    return std::nullopt;
  return query;
}

bool permits(const abi::ProcmapQuery &vma, Access access) {
  return (vma.vma_flags & abi::procmap_vma_shared) != 0 &&
         (!access.read || (vma.vma_flags & abi::procmap_vma_readable) != 0) &&
         (!access.write || (vma.vma_flags & abi::procmap_vma_writable) != 0);
}

/// The file systems whose files iommufd can pin (memfd_pin_folios() in the kernel's mm/gup.c).
bool can_be_mapped_by_file(const Fd &file) {
  struct statfs system {};
  return ::fstatfs(file.get(), &system) == 0 &&
         (system.f_type == TMPFS_MAGIC || system.f_type == HUGETLBFS_MAGIC);
}

/// Whether @p vma maps the open file @p opened.
bool maps_file(const abi::ProcmapQuery &vma, const struct stat &opened) {
  return vma.inode == opened.st_ino && vma.dev_major == major(opened.st_dev) &&
         vma.dev_minor == minor(opened.st_dev);
}

/// The file behind @p vma, if all of [@p start, @p end) of it can be mapped by file.
FilePart file_behind(Tid thread, const Fd &maps, const abi::ProcmapQuery &vma, std::uint64_t start,
                     std::uint64_t end, Access access) {
  if (vma.inode == 0 || !permits(vma, access))
    return {};
  const std::string link =
      fmt::format("/proc/{}/map_files/{:x}-{:x}", thread.value, vma.vma_start, vma.vma_end);
  Fd file{::open(link.c_str(), (access.write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK)};
  struct stat opened {};
  if (!file || ::fstat(file.get(), &opened) != 0 || !can_be_mapped_by_file(file))
    return {};

  // What the link names could have changed since the first look. The client is entitled to what it
  // has mapped *now*, with the permissions it has now.
  const auto now = find_vma(maps, start);
  if (!now || now->vma_end < end || !permits(*now, access) || !maps_file(*now, opened))
    return {};
  const std::uint64_t offset = now->vma_offset + (start - now->vma_start);
  const std::uint64_t file_end =
      (static_cast<std::uint64_t>(opened.st_size) + page_size - 1) & ~(page_size - 1);
  if (offset + (end - start) > file_end)
    return {}; // Mapped past the file's end: touching it would be SIGBUS.
  return {.file = std::move(file), .offset = Bytes{offset}};
}

} // namespace

Result<std::vector<MemoryPart>> divide_by_backing(Tid thread, ClientAddr start, Bytes size,
                                                  Access access, bool by_file) {
  std::vector<MemoryPart> parts;
  const std::uint64_t end = start.value + size.value;
  if (end < start.value) { // Up to the very top: no user memory.
    parts.push_back({.start = start, .size = size, .by_file = {}});
    return parts;
  }
  const Fd maps{::open(fmt::format("/proc/{}/maps", thread.value).c_str(), O_RDONLY | O_CLOEXEC)};

  std::uint64_t at = start.value;
  while (at < end) {
    const auto vma = find_vma(maps, at);
    if (!vma)
      break;
    if (!access.write && (vma->vma_flags & abi::procmap_vma_readable) == 0)
      return fail(EFAULT, fmt::format("client memory at {:#x} is not readable", at));
    const std::uint64_t part_end = std::min(end, vma->vma_end);
    MemoryPart part{.start = ClientAddr{at}, .size = Bytes{part_end - at}, .by_file = {}};
    if (by_file)
      part.by_file = file_behind(thread, maps, *vma, at, part_end, access);
    // Neighbours that must be pinned by address are pinned in one go.
    if (!part.by_file.file && !parts.empty() && !parts.back().by_file.file)
      parts.back().size = parts.back().size + part.size;
    else
      parts.push_back(std::move(part));
    at = part_end;
  }
  if (at < end) { // A hole, or no way to ask: the kernel will say what is wrong with it.
    if (!parts.empty() && !parts.back().by_file.file)
      parts.back().size = parts.back().size + Bytes{end - at};
    else
      parts.push_back({.start = ClientAddr{at}, .size = Bytes{end - at}, .by_file = {}});
  }
  return parts;
}

} // namespace vfio_shim::client
