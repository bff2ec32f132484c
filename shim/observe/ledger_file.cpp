// SPDX-License-Identifier: MIT
#include "observe/ledger_file.hpp"

#include "observe/statistics.hpp"

#include "vfio_shim/fd.hpp"

#include <algorithm>
#include <array>
#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::observe {

namespace fs = std::filesystem;
namespace ipc = boost::interprocess;

namespace {

constexpr std::uint64_t whole_steps(std::uint64_t size) {
  return (size + layout::growth - 1) / layout::growth * layout::growth;
}

/// What always has memory: the header and, behind it, the statistics.
constexpr std::uint64_t statistics_offset = 4096;
static_assert(sizeof(layout::Header) <= statistics_offset);
constexpr std::uint64_t size_of_head = statistics_offset + sizeof(Statistics);

/// Puts an array for @p capacity records at @p end, and @p end behind it.
template <typename Body>
void place(layout::Array &array, std::uint32_t capacity, std::uint64_t &end) {
  array.offset = end;
  array.capacity = capacity;
  array.record_size = sizeof(Committed<Body>);
  const std::uint64_t size = std::uint64_t{capacity} * array.record_size;
  end += whole_steps(size);
}

/// The arrays of a ledger.
std::array<layout::Array *, 8> arrays_of(layout::Header &header) {
  return {&header.containers, &header.groups, &header.devices, &header.mappings,
          &header.bindings,   &header.calls,  &header.areas,   &header.residents};
}

LedgerCapacity capacity_of(const layout::Header &header) {
  return {.containers = header.containers.capacity,
          .groups = header.groups.capacity,
          .devices = header.devices.capacity,
          .mappings = header.mappings.capacity,
          .bindings = header.bindings.capacity,
          .calls = header.calls.capacity,
          .areas = header.areas.capacity,
          .residents = header.residents.capacity};
}

/// Copies the records that were ever used. They keep their numbers, so what refers to them is
/// right.
/// @param file The one that @p to is mapped from.
Result<void> copy_records(const std::byte *from, const layout::Array &old, std::byte *to,
                          layout::Array &fresh, int file) {
  const std::uint32_t used = std::min(old.used.load(std::memory_order_relaxed), old.capacity);
  const std::uint64_t size = whole_steps(std::uint64_t{used} * fresh.record_size);
  if (size != 0 &&
      ::fallocate(file, 0, static_cast<off_t>(fresh.offset), static_cast<off_t>(size)) != 0 &&
      errno != EOPNOTSUPP)
    return fail_errno("memory for the ledger's records");
  for (std::uint64_t record = 0; record < used; ++record)
    std::memcpy(to + fresh.offset + record * fresh.record_size,
                from + old.offset + record * old.record_size, old.record_size);
  fresh.used.store(used, std::memory_order_relaxed);
  fresh.refused.store(old.refused.load(std::memory_order_relaxed), std::memory_order_relaxed);
  return {};
}

/// Fills the new file at @p path with what the ledger at @p from says.
Result<void> fill(const fs::path &path, std::byte *from) {
  auto &old = *reinterpret_cast<layout::Header *>(from);
  layout::Header placed{};
  VFIO_SHIM_TRY(make_ledger_file(path, placed, capacity_of(old)));
  const ipc::file_mapping file(path.c_str(), ipc::read_write);
  ipc::mapped_region region(file, ipc::read_write);
  auto *const to = static_cast<std::byte *>(region.get_address());
  std::memcpy(to, from, sizeof(layout::Header));
  auto &header = *reinterpret_cast<layout::Header *>(to);
  lay_out(header, capacity_of(old));
  header.version = layout::version;
  std::memcpy(to + header.statistics, from + old.statistics, sizeof(Statistics));
  const auto old_arrays = arrays_of(old);
  const auto new_arrays = arrays_of(header);
  for (std::size_t at = 0; at < old_arrays.size(); ++at)
    VFIO_SHIM_TRY(copy_records(from, *old_arrays.at(at), to, *new_arrays.at(at),
                               file.get_mapping_handle().handle));
  return {};
}

} // namespace

std::uint64_t lay_out(layout::Header &header, const LedgerCapacity &capacity) {
  header.statistics = statistics_offset;
  std::uint64_t end = whole_steps(size_of_head);
  place<layout::Container>(header.containers, capacity.containers, end);
  place<layout::Group>(header.groups, capacity.groups, end);
  place<layout::Device>(header.devices, capacity.devices, end);
  place<layout::Mapping>(header.mappings, capacity.mappings, end);
  place<layout::Binding>(header.bindings, capacity.bindings, end);
  place<layout::Call>(header.calls, capacity.calls, end);
  place<layout::Area>(header.areas, capacity.areas, end);
  place<layout::Resident>(header.residents, capacity.residents, end);
  return end;
}

Result<void> make_ledger_file(const fs::path &path, layout::Header &placed,
                              const LedgerCapacity &capacity) {
  ::unlink(path.c_str());
  const Fd file{::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!file)
    return fail_errno(path);
  // As in RecordArray: rather no ledger than a SIGBUS.
  if (::ftruncate(file.get(), static_cast<off_t>(lay_out(placed, capacity))) != 0 ||
      (::fallocate(file.get(), 0, 0, size_of_head) != 0 && errno != EOPNOTSUPP)) {
    auto failure = fail_errno(path);
    ::unlink(path.c_str());
    return failure;
  }
  return {};
}

Result<void> convert_ledger_file(const fs::path &path) {
  try {
    const ipc::file_mapping file(path.c_str(), ipc::read_only);
    const ipc::mapped_region region(file, ipc::copy_on_write);
    auto *const from = static_cast<std::byte *>(region.get_address());
    if (reinterpret_cast<const layout::Header *>(from)->version == layout::version)
      return {};
    const fs::path fresh = path.string() + ".new";
    auto filled = fill(fresh, from);
    if (filled && ::rename(fresh.c_str(), path.c_str()) != 0)
      filled = fail_errno(path);
    if (!filled)
      ::unlink(fresh.c_str());
    return filled;
  } catch (const ipc::interprocess_exception &failure) {
    return fail(failure.get_native_error() != 0 ? failure.get_native_error() : EIO, path);
  }
}

} // namespace vfio_shim::observe
