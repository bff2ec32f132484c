// SPDX-License-Identifier: MIT
#include "observe/ledger_reader.hpp"

#include "observe/process_identity.hpp"
#include "observe/text.hpp"

#include <algorithm>
#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/file_mapping.hpp>
#include <cstring>
#include <map>
#include <system_error>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::observe {

namespace ipc = boost::interprocess;

namespace {

Time time_of(std::int64_t nanoseconds) {
  return Time{std::chrono::duration_cast<Time::duration>(std::chrono::nanoseconds(nanoseconds))};
}

Snapshot::Client client_of(const layout::Client &client) {
  return {.pid = Pid{client.pid}, .command = text_of(client.command)};
}

/// Whether the array lies within the region and holds records as we know them, or the beginnings of
/// such records: an older daemon's.
template <typename Body>
bool sound(const layout::Array &array, std::uint64_t region_size) {
  return array.record_size >= 2 * sizeof(std::uint64_t) &&
         array.record_size % sizeof(std::uint64_t) == 0 &&
         array.record_size <= sizeof(Committed<Body>) && array.offset <= region_size &&
         array.offset % layout::growth == 0 &&
         array.capacity <= (region_size - array.offset) / array.record_size;
}

/// The file's size, if the file can be trusted.
Result<std::uint64_t> size_of(int file, const std::string &path) {
  struct stat status {};
  if (::fstat(file, &status) != 0)
    return fail_errno(path);
  if (!is_trusted(status.st_uid))
    return fail(EPERM, fmt::format("{}: made by user {}", path, status.st_uid));
  if (!S_ISREG(status.st_mode))
    return fail(EPROTO, path);
  return static_cast<std::uint64_t>(status.st_size);
}

} // namespace

Result<LedgerReader> LedgerReader::open(std::string_view prefix,
                                        const std::filesystem::path &directory) {
  const std::string path = directory / layout::file_name(prefix);
  try {
    const ipc::file_mapping file(path.c_str(), ipc::read_only);
    const auto size = size_of(file.get_mapping_handle().handle, path);
    if (!size)
      return pass_on(size);
    if (*size < sizeof(layout::Header))
      return fail(*size == 0 ? EAGAIN : EPROTO, path);
    LedgerReader reader{ipc::mapped_region(file, ipc::read_only)};
    VFIO_SHIM_TRY(reader.check(prefix));
    return reader;
  } catch (const ipc::interprocess_exception &failure) {
    return fail(failure.get_native_error() != 0 ? failure.get_native_error() : EIO, path);
  }
}

std::vector<std::string> LedgerReader::prefixes(const std::filesystem::path &directory) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error))
    if (auto prefix = layout::prefix_of(entry->path().filename().string()); !prefix.empty())
      found.push_back(std::move(prefix));
  std::ranges::sort(found);
  return found;
}

Result<void> LedgerReader::check(std::string_view prefix) const {
  const auto magic = header().magic.load(std::memory_order_acquire);
  if (magic == 0)
    return fail(EAGAIN, fmt::format("the ledger of {}: its daemon is just starting", prefix));
  if (magic != layout::magic)
    return fail(EPROTO, fmt::format("the ledger of {}: it is not a ledger", prefix));
  if (header().version < layout::oldest_version || header().version > layout::version)
    return fail(EPROTO,
                fmt::format("the ledger of {}: its version is {}, this program knows {} to {}",
                            prefix, header().version, layout::oldest_version, layout::version));
  const std::uint64_t size = region_.get_size();
  if (!sound<layout::Container>(header().containers, size) ||
      !sound<layout::Group>(header().groups, size) ||
      !sound<layout::Device>(header().devices, size) ||
      !sound<layout::Mapping>(header().mappings, size) ||
      !sound<layout::Binding>(header().bindings, size) ||
      !sound<layout::Call>(header().calls, size) || !sound<layout::Area>(header().areas, size) ||
      !sound<layout::Resident>(header().residents, size) ||
      header().statistics % alignof(Statistics) != 0 || header().statistics > size ||
      size - header().statistics < sizeof(Statistics))
    return fail(EPROTO, fmt::format("the ledger of {}: it is damaged", prefix));
  return {};
}

Snapshot::Daemon LedgerReader::daemon() const {
  const Pid pid{header().daemon_pid};
  return {.pid = pid,
          .keeper = Pid{header().keeper_pid},
          .replaced = header().replaced,
          .last_pause = std::chrono::nanoseconds(header().last_pause),
          .alive = still_runs(pid, header().daemon_started),
          .since = time_of(header().created),
          .prefix = text_of(header().prefix),
          .kernel = text_of(header().kernel)};
}

Snapshot LedgerReader::snapshot(Mappings mappings) const {
  // A group may move while we read: then begin again, but not for ever.
  constexpr int tries = 20;
  Snapshot snapshot;
  for (int attempt = 0; attempt < tries; ++attempt) {
    const auto before = header().changes.load(std::memory_order_acquire);
    snapshot = read_structure();
    if (header().changes.load(std::memory_order_acquire) == before)
      break;
  }
  if (mappings == Mappings::listed)
    list_mappings(snapshot);
  snapshot.daemon = daemon();
  for (const auto *array :
       {&header().containers, &header().groups, &header().devices, &header().mappings})
    snapshot.refused += array->refused.load(std::memory_order_relaxed);
  return snapshot;
}

std::vector<Statistics::Kind> LedgerReader::statistics() const {
  const auto *start = static_cast<const std::byte *>(region_.get_address());
  return reinterpret_cast<const Statistics *>(start + header().statistics)->read();
}

template <typename Body, typename Visit>
void LedgerReader::for_each(const layout::Array &array, std::uint32_t &torn, Visit visit) const {
  const auto *places = static_cast<const std::byte *>(region_.get_address()) + array.offset;
  const std::size_t known = array.record_size - sizeof(std::uint64_t); // Behind the commit word.
  // Not one place further: what was never used may have no memory, and reading would fetch some.
  const auto used = std::min(array.used.load(std::memory_order_acquire), array.capacity);
  for (std::uint32_t index = 0; index < used; ++index) {
    Body body{};
    const auto *place = reinterpret_cast<const Committed<Body> *>(places + std::uint64_t{index} *
                                                                               array.record_size);
    switch (place->look(body)) {
    case Committed<Body>::State::free:
      break;
    case Committed<Body>::State::whole:
      std::memset(reinterpret_cast<std::byte *>(&body) + known, 0, sizeof(body) - known);
      visit(body);
      break;
    case Committed<Body>::State::torn:
      ++torn;
      break;
    }
  }
}

Snapshot LedgerReader::read_structure() const {
  Snapshot snapshot;
  for_each<layout::Container>(
      header().containers, snapshot.torn, [&](const layout::Container &body) {
        snapshot.containers.push_back({.id = body.id,
                                       .client = client_of(body.client),
                                       .opened = time_of(body.opened),
                                       .iommu_type = body.iommu_type,
                                       .express = (body.flags & layout::Container::express) != 0,
                                       .mappings = body.mappings,
                                       .mapped_bytes = Bytes{body.mapped_bytes},
                                       .maps = body.maps,
                                       .unmaps = body.unmaps,
                                       .groups = {},
                                       .mapping_list = {}});
      });
  std::ranges::sort(snapshot.containers, {}, &Snapshot::Container::id);

  std::vector<layout::Group> groups;
  for_each<layout::Group>(header().groups, snapshot.torn,
                          [&](const layout::Group &body) { groups.push_back(body); });
  std::map<std::uint64_t, std::vector<std::string>> devices;
  for_each<layout::Device>(header().devices, snapshot.torn, [&](const layout::Device &body) {
    devices[body.group].push_back(text_of(body.name));
  });

  std::ranges::sort(groups, {}, &layout::Group::number);
  for (const layout::Group &body : groups) {
    Snapshot::Group group{.id = body.id,
                          .number = GroupId{body.number},
                          .client = client_of(body.client),
                          .opened = time_of(body.opened),
                          .devices = std::move(devices[body.id])};
    std::ranges::sort(group.devices);
    const auto container =
        std::ranges::lower_bound(snapshot.containers, body.container, {}, &Snapshot::Container::id);
    if (container != snapshot.containers.end() && container->id == body.container)
      container->groups.push_back(std::move(group));
    else
      snapshot.groups_without_container.push_back(std::move(group));
  }
  return snapshot;
}

void LedgerReader::list_mappings(Snapshot &snapshot) const {
  for_each<layout::Mapping>(header().mappings, snapshot.torn, [&](const layout::Mapping &body) {
    const auto container =
        std::ranges::lower_bound(snapshot.containers, body.container, {}, &Snapshot::Container::id);
    if (container == snapshot.containers.end() || container->id != body.container)
      return; // Of a container that was opened since.
    container->mapping_list.push_back(
        {.iova = Iova{body.iova},
         .vaddr = (body.flags & layout::Mapping::without_vaddr) == 0
                      ? std::optional(ClientAddr{body.vaddr})
                      : std::nullopt,
         .size = Bytes{body.size},
         .access = {.read = (body.flags & layout::Mapping::readable) != 0,
                    .write = (body.flags & layout::Mapping::writable) != 0}});
  });
  for (auto &container : snapshot.containers)
    std::ranges::sort(container.mapping_list, {}, &Snapshot::Mapping::iova);
}

} // namespace vfio_shim::observe
