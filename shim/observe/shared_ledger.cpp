#include "observe/shared_ledger.hpp"

#include "observe/ledger_directory.hpp"
#include "observe/ledger_reader.hpp"
#include "observe/process_identity.hpp"
#include "observe/text.hpp"

#include "vfio_shim/fd.hpp"

#include <algorithm>
#include <boost/interprocess/exceptions.hpp>
#include <chrono>
#include <new>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace vfio_shim::observe {

namespace fs = std::filesystem;
namespace ipc = boost::interprocess;

namespace {

std::int64_t now() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

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

/// Says where everything goes. @return The size of the region.
std::uint64_t lay_out(layout::Header &header, const LedgerCapacity &capacity) {
  header.statistics = statistics_offset;
  std::uint64_t end = whole_steps(size_of_head);
  place<layout::Container>(header.containers, capacity.containers, end);
  place<layout::Group>(header.groups, capacity.groups, end);
  place<layout::Device>(header.devices, capacity.devices, end);
  place<layout::Mapping>(header.mappings, capacity.mappings, end);
  return end;
}

void describe_daemon(layout::Header &header, std::string_view prefix) {
  const ProcessIdentity self = identify(Pid{::getpid()});
  header.version = layout::version;
  header.daemon_pid = self.pid.value;
  header.daemon_started = self.started;
  header.created = now();
  copy_text(prefix, header.prefix);
  copy_text(kernel_release(), header.kernel);
}

/// Whether a running daemon owns the ledger of @p prefix. One that cannot be read has no owner.
bool in_use(std::string_view prefix, const fs::path &directory) {
  const auto reader = LedgerReader::open(prefix, directory);
  return reader && reader->daemon().alive;
}

/// A new file for a ledger that is laid out as @p placed, in place of one that is there.
Result<void> make_file(const fs::path &path, layout::Header &placed,
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

} // namespace

Result<std::unique_ptr<SharedLedger>>
SharedLedger::create(std::string_view prefix, LedgerCapacity capacity, const fs::path &directory) {
  if (!is_prefix(prefix))
    return fail(EINVAL, fmt::format("'{}' as a prefix", prefix));
  if (in_use(prefix, directory))
    return fail(EBUSY, fmt::format("a daemon serves /dev/{} already", prefix));

  VFIO_SHIM_TRY(make_ledger_directory(directory));
  const fs::path path = directory / layout::file_name(prefix);
  layout::Header placed{};
  VFIO_SHIM_TRY(make_file(path, placed, capacity));
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
                header().mappings) {}

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
                                         .opened = now(),
                                         .client = record_of(client),
                                         .mappings = 0,
                                         .mapped_bytes = 0,
                                         .maps = 0,
                                         .unmaps = 0,
                                         .iommu_type = 0,
                                         .reserved = 0});
  note_change();
  return record;
}

void SharedLedger::iommu_set(Record container, std::uint32_t type) {
  containers_.at(container).amend([&](layout::Container &body) { body.iommu_type = type; });
  note_change();
}

void SharedLedger::container_gone(Record container) {
  containers_.remove(container);
  note_change();
}

Ledger::Record SharedLedger::group_opened(FileNumber file, GroupId group, Pid client) {
  const Record record = groups_.add({.id = file.value,
                                     .opened = now(),
                                     .client = record_of(client),
                                     .container = 0,
                                     .number = group.value,
                                     .reserved = 0});
  note_change();
  return record;
}

void SharedLedger::group_moved(Record group, Record container) {
  const std::uint64_t id = container != 0 ? containers_.at(container).held().id : 0;
  groups_.at(group).amend([&](layout::Group &body) { body.container = id; });
  note_change();
}

void SharedLedger::group_gone(Record group) {
  groups_.remove(group);
  note_change();
}

Ledger::Record SharedLedger::device_opened(Record group, std::string_view name) {
  layout::Device device{.group = groups_.at(group).held().id, .opened = now(), .name = {}};
  copy_text(name, device.name);
  const Record record = devices_.add(device);
  note_change();
  return record;
}

void SharedLedger::device_gone(Record device) {
  devices_.remove(device);
  note_change();
}

Ledger::Record SharedLedger::mapped(Record container, const MappingEntry &entry) {
  auto &place = containers_.at(container);
  auto body = place.held();
  const Record record =
      mappings_.add({.container = body.id,
                     .iova = entry.iova.value,
                     .vaddr = entry.vaddr.value,
                     .size = entry.size.value,
                     .flags = (entry.access.read ? layout::Mapping::readable : 0) |
                              (entry.access.write ? layout::Mapping::writable : 0),
                     .reserved = 0});
  if (record == 0)
    return record;
  ++body.maps;
  ++body.mappings;
  body.mapped_bytes += entry.size.value;
  place.publish(body);
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

void SharedLedger::unmapped(Record container, Record mapping) {
  containers_.at(container).amend([&](layout::Container &body) {
    ++body.unmaps;
    --body.mappings;
    body.mapped_bytes -= mappings_.at(mapping).held().size;
  });
  mappings_.remove(mapping);
}

} // namespace vfio_shim::observe
