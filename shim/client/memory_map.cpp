// SPDX-License-Identifier: MIT
#include "client/memory_map.hpp"

#include "abi/procmap.hpp"
#include "abi/vfio.hpp"
#include "client/pagemap.hpp"
#include "client/process_handle.hpp"

#include "vfio_shim/call_witness.hpp"

#include <algorithm>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "shortage.hpp"

namespace vfio_shim::client {

namespace {

constexpr std::uint64_t page_size = 4096;
/// From so many on, it takes the kernel longer to find small pages from outside than to borrow the
/// client.
constexpr std::uint64_t many_pages = 1024;

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

/// The path by which the file behind @p vma can be looked at.
std::string link_to_file(Tid thread, const abi::ProcmapQuery &vma) {
  return fmt::format("/proc/{}/map_files/{:x}-{:x}", thread.value, vma.vma_start, vma.vma_end);
}

/// For the record only: nothing depends on it, so it may be out of date at once. Opens no file.
/// @param is_bar Whether the file of @p part is a BAR's.
MemoryKind kind_of(Tid thread, const abi::ProcmapQuery &vma, const MemoryPart &part, bool is_bar) {
  if (vma.vma_page_size > page_size)
    return MemoryKind::hugetlb;
  if (vma.inode == 0)
    return MemoryKind::anonymous;
  if (part.by_file.file) // Known already: no need to look at its file system.
    return is_bar ? MemoryKind::device : MemoryKind::shmem;
  struct statfs system {};
  const std::string link = link_to_file(thread, vma);
  struct stat file {};
  if (::stat(link.c_str(), &file) == 0 && S_ISCHR(file.st_mode))
    return MemoryKind::device;
  if (::statfs(link.c_str(), &system) == 0 && system.f_type == TMPFS_MAGIC)
    return MemoryKind::shmem;
  return MemoryKind::file;
}

void tell_witness(Tid thread, const abi::ProcmapQuery &vma, const MemoryPart &part, bool is_bar) {
  CallWitness::current().found_memory({.size = part.size,
                                       .page_size = Bytes{vma.vma_page_size},
                                       .kind = kind_of(thread, vma, part, is_bar),
                                       .shared = (vma.vma_flags & abi::procmap_vma_shared) != 0,
                                       .by_file = static_cast<bool>(part.by_file.file)});
}

/// Whether @p vma maps the open file @p opened.
bool maps_file(const abi::ProcmapQuery &vma, const struct stat &opened) {
  return vma.inode == opened.st_ino && vma.dev_major == major(opened.st_dev) &&
         vma.dev_minor == minor(opened.st_dev);
}

FileIdentity file_of(const abi::ProcmapQuery &vma) {
  return {.filesystem = makedev(vma.dev_major, vma.dev_minor), .inode = vma.inode};
}

/// Where in the file of @p vma the client's address @p address lies.
std::uint64_t file_offset(const abi::ProcmapQuery &vma, std::uint64_t address) {
  return vma.vma_offset + (address - vma.vma_start);
}

/// The dma-buf of the BAR that [@p start, @p end) of @p vma is part of, if it is device memory. It
/// is mapped as @p access needs.
/// @return EFAULT: it is, but this kernel cannot export it. ENFILE, ENOMEM: it cannot be told.
Result<FilePart> bar_behind(DeviceMemory &devices, const Fd &maps, const abi::ProcmapQuery &vma,
                            std::uint64_t start, std::uint64_t end, Access access) {
  const std::uint64_t place = file_offset(vma, start);
  auto bar = devices.find(file_of(vma), static_cast<std::uint32_t>(place >> abi::region_shift));
  if (!bar && bar.error().code == EOPNOTSUPP)
    return fail(EFAULT, fmt::format("client memory at {:#x} is a device's: {}", start,
                                    bar.error().describe()));
  if (!bar && is_shortage(bar.error().code))
    return fail_for_want_of_descriptors(bar.error().where, bar.error().code);
  // As with files: what counts is what the client has mapped now. If it is this device still, then
  // the device was the client's when its memory was found.
  const auto now = find_vma(maps, start);
  if (!bar || !now || now->vma_end < end || !permits(*now, access) ||
      file_of(*now) != file_of(vma) || file_offset(*now, start) != place)
    return FilePart{};
  constexpr std::uint64_t within_region = (std::uint64_t{1} << abi::region_shift) - 1;
  return FilePart{.file = std::move(*bar), .offset = Bytes{place & within_region}};
}

/// The file behind @p vma, which is mapped as @p access needs, if all of [@p start, @p end) of it
/// can be mapped by file.
FilePart file_behind(Tid thread, const Fd &maps, const abi::ProcmapQuery &vma, std::uint64_t start,
                     std::uint64_t end, Access access) {
  Fd file{::open(link_to_file(thread, vma).c_str(),
                 (access.write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK)};
  struct stat opened {};
  if (!file || ::fstat(file.get(), &opened) != 0 || !can_be_mapped_by_file(file))
    return {};

  // What the link names could have changed since the first look. The client is entitled to what it
  // has mapped *now*, with the permissions it has now.
  const auto now = find_vma(maps, start);
  if (!now || now->vma_end < end || !permits(*now, access) || !maps_file(*now, opened))
    return {};
  const std::uint64_t offset = file_offset(*now, start);
  const std::uint64_t file_end =
      (static_cast<std::uint64_t>(opened.st_size) + page_size - 1) & ~(page_size - 1);
  if (offset + (end - start) > file_end)
    return {}; // Mapped past the file's end: touching it would be SIGBUS.
  return {.file = std::move(file), .offset = Bytes{offset}};
}

} // namespace

Result<std::vector<MemoryPart>> divide_by_backing(Tid thread, MemoryFiles &files, ClientAddr start,
                                                  Bytes size, Access access,
                                                  const MappableByFile &by_file) {
  std::vector<MemoryPart> parts;
  const std::uint64_t end = start.value + size.value;
  if (end < start.value) { // Up to the very top: no user memory.
    parts.push_back({.start = start, .size = size, .by_file = {}});
    return parts;
  }
  const auto opened = files.maps(thread);
  if (!opened)
    return pass_on(opened);
  const Fd &maps = **opened;

  std::optional<bool> may_pin;
  std::uint64_t at = start.value;
  while (at < end) {
    const auto vma = find_vma(maps, at);
    if (!vma)
      break;
    if (!access.write && (vma->vma_flags & abi::procmap_vma_readable) == 0)
      return fail(EFAULT, fmt::format("client memory at {:#x} is not readable", at));
    const std::uint64_t part_end = std::min(end, vma->vma_end);
    MemoryPart part{.start = ClientAddr{at}, .size = Bytes{part_end - at}, .by_file = {}};
    const bool shared_file = vma->inode != 0 && permits(*vma, access);
    if (shared_file && by_file.device_memory != nullptr) {
      auto bar = bar_behind(*by_file.device_memory, maps, *vma, at, part_end, access);
      if (!bar)
        return pass_on(bar);
      part.by_file = std::move(*bar);
    }
    const bool is_bar = static_cast<bool>(part.by_file.file);
    if (shared_file && !is_bar) {
      if (!may_pin)
        may_pin = by_file.pinned_memory && by_file.pinned_memory();
      if (*may_pin)
        part.by_file = file_behind(thread, maps, *vma, at, part_end, access);
    }
    tell_witness(thread, *vma, part, is_bar);
    // Neighbours that must be pinned by address are pinned in one go.
    if (!part.by_file.file && !parts.empty() && !parts.back().by_file.file)
      parts.back().size = parts.back().size + part.size;
    else
      parts.push_back(std::move(part));
    at = part_end;
  }
  for (MemoryPart &part : parts)
    part.pin_in_client = !part.by_file.file && !is_quickly_pinned(files.pagemap(thread), part.start,
                                                                  part.size, many_pages);
  if (at < end) { // A hole, or no way to ask: the kernel will say what is wrong with it.
    CallWitness::current().found_memory({.size = Bytes{end - at}, .page_size = {}});
    if (!parts.empty() && !parts.back().by_file.file)
      parts.back().size = parts.back().size + Bytes{end - at};
    else
      parts.push_back({.start = ClientAddr{at}, .size = Bytes{end - at}, .by_file = {}});
  }
  return parts;
}

} // namespace vfio_shim::client
