// SPDX-License-Identifier: MIT
#include "observe/shared_ledger.hpp"

#include "observe/ledger_directory.hpp"
#include "observe/ledger_file.hpp"
#include "observe/ledger_reader.hpp"
#include "observe/process_identity.hpp"
#include "observe/text.hpp"

#include "vfio_shim/fd.hpp"

#include <algorithm>
#include <boost/interprocess/exceptions.hpp>
#include <chrono>
#include <iterator>
#include <new>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace vfio_shim::observe {

namespace fs = std::filesystem;
namespace ipc = boost::interprocess;

namespace {

layout::Client record_of(Pid pid) {
  const ProcessIdentity process = identify(pid);
  layout::Client client{.started = process.started, .command = {}, .pid = pid.value, .reserved = 0};
  copy_text(process.command, client.command);
  return client;
}

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? name.release : "";
}

bool is_prefix(std::string_view text) {
  return !text.empty() && text.size() <= layout::longest_prefix && text.front() != '/' &&
         text.find('!') == std::string_view::npos && text.find('\0') == std::string_view::npos;
}

void set_flag(std::uint32_t &flags, std::uint32_t flag, bool on) {
  flags = on ? flags | flag : flags & ~flag;
}

layout::Binding binding_of(std::uint64_t group, std::uint32_t generation,
                           const BackendState::Device &device) {
  layout::Binding binding{.group = group,
                          .generation = generation,
                          .devid = device.devid,
                          .attached = device.attached ? 1U : 0U,
                          .file = device.file,
                          .bars = device.bars,
                          .filesystem = device.filesystem,
                          .inode = device.inode,
                          .name = {}};
  copy_text(device.name, binding.name);
  return binding;
}

BackendState::Device device_of(const layout::Binding &body) {
  return {.name = text_of(body.name),
          .devid = body.devid,
          .attached = body.attached != 0,
          .file = body.file,
          .bars = body.bars,
          .filesystem = body.filesystem,
          .inode = body.inode};
}

BackendState::Group backing_of(const layout::Group &body) {
  return {.id = GroupId{body.number},
          .file = body.backend_file,
          .domain = body.domain,
          .tracks_dirty = (body.flags & layout::Group::tracks_dirty) != 0};
}

ContainerState state_of(Ledger::Record record, const layout::Container &body) {
  return {.record = record,
          .file = FileNumber{body.id},
          .opening = body.opening,
          .client = Pid{body.client.pid},
          .user = body.user,
          .closed = (body.flags & layout::Container::closed) != 0,
          .iommu_type = body.iommu_type,
          .tracking_dirty = (body.flags & layout::Container::tracking_dirty) != 0,
          .express = (body.flags & layout::Container::express) != 0,
          .stands_for = FileNumber{body.stands_for},
          .backend = {.file = body.backend_file, .ioas = body.ioas},
          .mappings = {}};
}

MappingState state_of(Ledger::Record record, const layout::Mapping &body) {
  return {.record = record,
          .entry = {.iova = Iova{body.iova},
                    .vaddr = ClientAddr{body.vaddr},
                    .size = Bytes{body.size},
                    .access = {.read = (body.flags & layout::Mapping::readable) != 0,
                               .write = (body.flags & layout::Mapping::writable) != 0}},
          .all_dirty = (body.flags & layout::Mapping::all_dirty) != 0,
          .vaddr_valid = (body.flags & layout::Mapping::without_vaddr) == 0};
}

GroupState state_of(Ledger::Record record, const layout::Group &body) {
  return {.record = record,
          .file = FileNumber{body.id},
          .opening = body.opening,
          .id = GroupId{body.number},
          .client = Pid{body.client.pid},
          .closed = (body.flags & layout::Group::closed) != 0,
          .container = FileNumber{body.container},
          .devices = {}};
}

DeviceState state_of(Ledger::Record record, const layout::Device &body) {
  DeviceState state{.record = record, .name = text_of(body.name), .holders = {}};
  for (const layout::Holder &holder : body.holders)
    if (holder.pid != 0)
      state.holders.push_back({.process = Pid{holder.pid}, .number = ClientFd{holder.number}});
  return state;
}

/// The sums of a container are written after its mappings.
void recount(Committed<layout::Container> &place, const ContainerState &state) {
  place.amend([&state](layout::Container &body) {
    body.mappings = state.mappings.size();
    body.mapped_bytes = 0;
    for (const MappingState &mapping : state.mappings)
      body.mapped_bytes += mapping.entry.size.value;
  });
}

void describe_daemon(layout::Header &header, std::string_view prefix) {
  const ProcessIdentity self = identify(Pid{::getpid()});
  header.version = layout::version;
  header.daemon_pid = self.pid.value;
  header.daemon_started = self.started;
  header.created = ledger_time();
  copy_text(prefix, header.prefix);
  copy_text(kernel_release(), header.kernel);
}

/// Whether a running daemon owns the ledger of @p prefix. One that cannot be read has no owner.
bool in_use(std::string_view prefix, const fs::path &directory) {
  const auto reader = LedgerReader::open(prefix, directory);
  return reader && reader->daemon().alive;
}

} // namespace

std::int64_t ledger_time() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

Result<std::unique_ptr<SharedLedger>>
SharedLedger::create(std::string_view prefix, LedgerCapacity capacity, const fs::path &directory) {
  if (!is_prefix(prefix))
    return fail(EINVAL, fmt::format("'{}' as a prefix", prefix));
  if (in_use(prefix, directory))
    return fail(EBUSY, fmt::format("a daemon serves /dev/{} already", prefix));

  VFIO_SHIM_TRY(make_ledger_directory(directory));
  const fs::path path = directory / layout::file_name(prefix);
  layout::Header placed{};
  VFIO_SHIM_TRY(make_ledger_file(path, placed, capacity));
  try {
    ipc::file_mapping file(path.c_str(), ipc::read_write);
    ::fcntl(file.get_mapping_handle().handle, F_SETFD, FD_CLOEXEC);
    ipc::mapped_region region(file, ipc::read_write);
    auto &header = *new (region.get_address()) layout::Header{};
    lay_out(header, capacity);
    new (static_cast<std::byte *>(region.get_address()) + header.statistics) Statistics;
    describe_daemon(header, prefix);
    std::unique_ptr<SharedLedger> ledger(
        new SharedLedger(path, std::move(file), std::move(region)));
    header.magic.store(layout::magic, std::memory_order_release);
    return ledger;
  } catch (const ipc::interprocess_exception &failure) {
    return fail(failure.get_native_error() != 0 ? failure.get_native_error() : EIO, path);
  }
}

Result<std::unique_ptr<SharedLedger>>
SharedLedger::adopt(std::string_view prefix, Inheritance &inheritance, const fs::path &directory) {
  if (const auto reader = LedgerReader::open(prefix, directory); !reader)
    return pass_on(reader); // It has looked at everything but the records.
  const fs::path path = directory / layout::file_name(prefix);
  VFIO_SHIM_TRY(convert_ledger_file(path));
  try {
    ipc::file_mapping file(path.c_str(), ipc::read_write);
    ::fcntl(file.get_mapping_handle().handle, F_SETFD, FD_CLOEXEC);
    ipc::mapped_region region(file, ipc::read_write);
    std::unique_ptr<SharedLedger> ledger(
        new SharedLedger(path, std::move(file), std::move(region)));
    const ProcessIdentity self = identify(Pid{::getpid()});
    layout::Header &header = ledger->header();
    header.daemon_pid = self.pid.value;
    header.daemon_started = self.started;
    header.last_pause = 0; // Not known yet.
    ++header.replaced;
    inheritance = ledger->read_inheritance();
    return ledger;
  } catch (const ipc::interprocess_exception &failure) {
    return fail(failure.get_native_error() != 0 ? failure.get_native_error() : EIO, path);
  }
}

void SharedLedger::remove_left_behind(std::string_view prefix, const fs::path &directory) {
  if (!in_use(prefix, directory))
    ::unlink((directory / layout::file_name(prefix)).c_str());
}

SharedLedger::SharedLedger(fs::path path, ipc::file_mapping file, ipc::mapped_region region)
    : path_(std::move(path)),
      file_(std::move(file)),
      region_(std::move(region)),
      containers_(static_cast<std::byte *>(region_.get_address()),
                  file_.get_mapping_handle().handle, header().containers),
      groups_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
              header().groups),
      devices_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
               header().devices),
      mappings_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
                header().mappings),
      bindings_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
                header().bindings),
      calls_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
             header().calls),
      areas_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
             header().areas),
      residents_(static_cast<std::byte *>(region_.get_address()), file_.get_mapping_handle().handle,
                 header().residents) {}

SharedLedger::~SharedLedger() {
  remove();
}

void SharedLedger::remove() {
  // A forked child is not the daemon.
  if (header().daemon_pid == ::getpid())
    ::unlink(path_.c_str());
}

FileNumber SharedLedger::next_file() {
  return FileNumber{header().last_file.fetch_add(1, std::memory_order_relaxed) + 1};
}

Ledger::Record SharedLedger::container_opened(FileNumber file, Pid client) {
  const Record record = containers_.add({.id = file.value,
                                         .opening = 0,
                                         .opened = ledger_time(),
                                         .client = record_of(client),
                                         .mappings = 0,
                                         .mapped_bytes = 0,
                                         .maps = 0,
                                         .unmaps = 0,
                                         .backend_file = 0,
                                         .ioas = 0,
                                         .user = 0,
                                         .iommu_type = 0,
                                         .flags = 0,
                                         .stands_for = 0});
  note_change();
  return record;
}

void SharedLedger::container_of(Record container, std::uint32_t user, std::uint64_t opening) {
  amend(containers_, container, [&](layout::Container &body) {
    body.user = user;
    body.opening = opening;
  });
}

void SharedLedger::group_of(Record group, std::uint64_t opening) {
  amend(groups_, group, [&](layout::Group &body) { body.opening = opening; });
}

void SharedLedger::dirty_tracked(Record container, bool on) {
  amend(containers_, container, [&](layout::Container &body) {
    set_flag(body.flags, layout::Container::tracking_dirty, on);
  });
}

void SharedLedger::express(Record container, bool on) {
  amend(containers_, container,
        [&](layout::Container &body) { set_flag(body.flags, layout::Container::express, on); });
  note_change();
}

void SharedLedger::stands_for(Record container, Record other) {
  const std::uint64_t id = other != 0 ? containers_.at(other).held().id : 0;
  amend(containers_, container, [&](layout::Container &body) { body.stands_for = id; });
}

void SharedLedger::container_backed(Record container, FileStore::Number file, std::uint32_t ioas) {
  amend(containers_, container, [&](layout::Container &body) {
    body.backend_file = file;
    body.ioas = ioas;
  });
}

void SharedLedger::container_closed(Record container) {
  amend(containers_, container,
        [&](layout::Container &body) { body.flags |= layout::Container::closed; });
}

void SharedLedger::iommu_set(Record container, std::uint32_t type) {
  amend(containers_, container, [&](layout::Container &body) { body.iommu_type = type; });
  note_change();
}

void SharedLedger::container_gone(Record container) {
  containers_.remove(container);
  note_change();
}

Ledger::Record SharedLedger::group_opened(FileNumber file, GroupId group, Pid client) {
  const Record record = groups_.add({.id = file.value,
                                     .opening = 0,
                                     .opened = ledger_time(),
                                     .client = record_of(client),
                                     .container = 0,
                                     .backend_file = 0,
                                     .domain = 0,
                                     .number = group.value,
                                     .flags = 0,
                                     .generation = 0});
  note_change();
  return record;
}

void SharedLedger::group_moved(Record group, Record container) {
  const std::uint64_t id = container != 0 ? containers_.at(container).held().id : 0;
  amend(groups_, group, [&](layout::Group &body) { body.container = id; });
  note_change();
}

/// The bindings are written anew, and count from when the group's record says so.
void SharedLedger::group_backed(Record group, const BackendState::Group &state) {
  const std::scoped_lock lock(bindings_mutex_);
  const layout::Group body = groups_.at(group).held();
  const std::uint32_t generation = body.generation + 1;
  std::vector<Record> written;
  for (const BackendState::Device &device : state.devices)
    if (const Record record = bindings_.add(binding_of(body.id, generation, device)); record != 0)
      written.push_back(record);
  amend(groups_, group, [&](layout::Group &changed) {
    changed.backend_file = state.file;
    changed.domain = state.domain;
    set_flag(changed.flags, layout::Group::tracks_dirty, state.tracks_dirty);
    changed.generation = generation;
  });
  std::swap(bindings_of_[group], written);
  for (const Record old : written)
    bindings_.remove(old);
}

void SharedLedger::group_closed(Record group) {
  amend(groups_, group, [](layout::Group &body) { body.flags |= layout::Group::closed; });
}

void SharedLedger::group_gone(Record group) {
  {
    const std::scoped_lock lock(bindings_mutex_);
    if (const auto known = bindings_of_.extract(group))
      for (const Record binding : known.mapped())
        bindings_.remove(binding);
  }
  groups_.remove(group);
  note_change();
}

Ledger::Record SharedLedger::device_opened(Record group, std::string_view name) {
  layout::Device device{
      .group = groups_.at(group).held().id, .opened = ledger_time(), .name = {}, .holders = {}};
  copy_text(name, device.name);
  const Record record = devices_.add(device);
  note_change();
  return record;
}

/// As many as Group itself remembers, the latest last.
void SharedLedger::device_given(Record device, Pid process, ClientFd number) {
  devices_.at(device).amend([&](layout::Device &body) {
    auto &holders = body.holders;
    const auto is_free = [&](const layout::Holder &holder) {
      return holder.pid == 0 || holder.pid == process.value;
    };
    const auto end = std::remove_if(holders.begin(), holders.end(), is_free);
    std::fill(end, holders.end(), layout::Holder{});
    const auto free = std::ranges::find(holders, 0, &layout::Holder::pid);
    if (free == holders.end())
      std::rotate(holders.begin(), std::next(holders.begin()), holders.end());
    *(free == holders.end() ? std::prev(free) : free) = {.pid = process.value,
                                                         .number = number.value};
  });
}

void SharedLedger::device_gone(Record device) {
  devices_.remove(device);
  note_change();
}

Ledger::Record SharedLedger::mapped(Record container, const MappingEntry &entry) {
  const Record record =
      mappings_.add({.container = containers_.at(container).held().id,
                     .iova = entry.iova.value,
                     .vaddr = entry.vaddr.value,
                     .size = entry.size.value,
                     .flags = (entry.access.read ? layout::Mapping::readable : 0) |
                              (entry.access.write ? layout::Mapping::writable : 0),
                     .reserved = 0});
  if (record == 0)
    return record;
  amend(containers_, container, [&entry](layout::Container &body) {
    ++body.maps;
    ++body.mappings;
    body.mapped_bytes += entry.size.value;
  });
  return record;
}

void SharedLedger::vaddr_changed(Record /*container*/, Record mapping,
                                 std::optional<ClientAddr> vaddr) {
  mappings_.at(mapping).amend([&](layout::Mapping &body) {
    body.flags &= ~layout::Mapping::without_vaddr;
    if (vaddr)
      body.vaddr = vaddr->value;
    else
      body.flags |= layout::Mapping::without_vaddr;
  });
}

void SharedLedger::all_dirty(Record mapping, bool yes) {
  mappings_.at(mapping).amend(
      [&](layout::Mapping &body) { set_flag(body.flags, layout::Mapping::all_dirty, yes); });
}

void SharedLedger::unmapped(Record container, Record mapping) {
  amend(containers_, container, [&](layout::Container &body) {
    ++body.unmaps;
    --body.mappings;
    body.mapped_bytes -= mappings_.at(mapping).held().size;
  });
  mappings_.remove(mapping);
}

std::pair<Ledger::Record, std::uint64_t> SharedLedger::call_begins(layout::Call call) {
  call.id = ++header().last_call;
  return {calls_.add(call), call.id};
}

Inheritance SharedLedger::read_inheritance() {
  Inheritance inheritance;
  std::map<std::uint64_t, ContainerState> containers;
  containers_.adopt([&](Record record, const layout::Container &body) {
    containers.emplace(body.id, state_of(record, body));
  });
  mappings_.adopt([&](Record record, const layout::Mapping &body) {
    const auto owner = containers.find(body.container);
    if (owner != containers.end())
      owner->second.mappings.push_back(state_of(record, body));
    else
      mappings_.remove(record); // Its container was just going.
  });
  for (auto &[id, state] : containers) {
    recount(containers_.at(state.record), state);
    inheritance.containers.push_back(std::move(state));
  }
  inherit_groups(inheritance);
  calls_.adopt([&](Record record, const layout::Call &body) {
    inheritance.calls.push_back({.record = record, .body = body});
  });
  areas_.adopt([&](Record record, const layout::Area &body) {
    inheritance.areas.push_back({.record = record, .body = body});
  });
  residents_.adopt([&](Record record, const layout::Resident &body) {
    inheritance.residents.push_back({.record = record, .body = body});
  });
  return inheritance;
}

/// The groups, what they have bound and what they have given away.
void SharedLedger::inherit_groups(Inheritance &inheritance) {
  struct Found {
    GroupState state;
    layout::Group body;
    BackendState::Group backing;
  };
  std::map<std::uint64_t, Found> groups;
  groups_.adopt([&](Record record, const layout::Group &body) {
    groups.emplace(
        body.id, Found{.state = state_of(record, body), .body = body, .backing = backing_of(body)});
  });
  devices_.adopt([&](Record record, const layout::Device &body) {
    const auto owner = groups.find(body.group);
    if (owner != groups.end())
      owner->second.state.devices.push_back(state_of(record, body));
    else
      devices_.remove(record);
  });
  bindings_.adopt([&](Record record, const layout::Binding &body) {
    const auto owner = groups.find(body.group);
    if (owner == groups.end() || owner->second.body.generation != body.generation)
      return bindings_.remove(record);
    owner->second.backing.devices.push_back(device_of(body));
    bindings_of_[owner->second.state.record].push_back(record);
  });
  for (auto &[id, group] : groups) {
    for (ContainerState &container : inheritance.containers)
      if (container.file == group.state.container)
        container.backend.groups.push_back(std::move(group.backing));
    inheritance.groups.push_back(std::move(group.state));
  }
}

} // namespace vfio_shim::observe
