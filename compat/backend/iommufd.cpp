// SPDX-License-Identifier: MIT
#include "backend/iommufd.hpp"

#include "abi/iommufd.hpp"
#include "abi/vfio.hpp"
#include "backend/ioctl.hpp"

#include <algorithm>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include "iova_window.hpp"

namespace vfio_shim {

namespace {

/// The page sizes of the IOMMU domain and whether it enforces coherency. iommufd's own ABI does
/// not tell, but its legacy ioctls, which every kernel with iommufd answers, do.
struct DomainTraits {
  std::uint64_t page_sizes = 0;
  bool coherent = false;
};

Result<DomainTraits> domain_traits(const Fd &iommufd) {
  vfio_iommu_type1_info info{};
  info.argsz = sizeof(info);
  VFIO_SHIM_TRY(run_ioctl(iommufd, VFIO_IOMMU_GET_INFO, &info, "VFIO_IOMMU_GET_INFO on iommufd"));
  const int coherent = ::ioctl(iommufd.get(), VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU);
  if (coherent < 0)
    return fail_errno("VFIO_CHECK_EXTENSION on iommufd");
  return DomainTraits{.page_sizes = info.iova_pgsizes, .coherent = coherent == 1};
}

/// Whether @p device is there as it was, under the same cdev.
bool is_among(const std::vector<topology::Device> &present, const topology::Device &device) {
  return std::ranges::any_of(present, [&](const topology::Device &candidate) {
    return candidate.name == device.name && candidate.cdev == device.cdev;
  });
}

} // namespace

Result<void> IommufdBackend::check(const topology::Roots &roots) {
  const std::filesystem::path node = roots.dev / "iommu";
  if (Fd{::open(node.c_str(), O_RDWR | O_CLOEXEC)})
    return {};
  return fail(errno, fmt::format("cannot open {} ({}): load it with `modprobe iommufd`, or build "
                                 "the kernel with CONFIG_IOMMUFD",
                                 node.string(), errno_name(errno)));
}

Result<std::unique_ptr<Backend>> IommufdBackend::create(const std::filesystem::path &iommu_node,
                                                        const BackendNeeds &needs) {
  Fd iommufd{::open(iommu_node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!iommufd)
    return fail_errno(iommu_node);

  // Must come before any object exists; needs CAP_SYS_RESOURCE.
  abi::IommuOption option{
      .option_id = abi::option_rlimit_mode, .op = abi::option_op_set, .val64 = 1};
  VFIO_SHIM_TRY(run_ioctl(iommufd, abi::iommu_option, &option, "IOMMU_OPTION_RLIMIT_MODE"));

  auto kept = KeptFile::keep(std::move(iommufd), *needs.store);
  if (!kept)
    return pass_on(kept);
  std::unique_ptr<IommufdBackend> backend(new IommufdBackend(std::move(*kept), needs));
  VFIO_SHIM_TRY(backend->make_ioas());
  return backend;
}

Result<std::unique_ptr<Backend>> IommufdBackend::create_on(Fd iommufd, const BackendNeeds &needs) {
  abi::IommuVfioIoas legacy{.op = abi::vfio_ioas_get};
  const auto asked = run_ioctl(iommufd, abi::iommu_vfio_ioas, &legacy, "IOMMU_VFIO_IOAS_GET");
  if (!asked && asked.error().code != ENODEV)
    return pass_on(asked);
  auto kept = KeptFile::keep(std::move(iommufd), *needs.store);
  if (!kept)
    return pass_on(kept);
  std::unique_ptr<IommufdBackend> backend(new IommufdBackend(std::move(*kept), needs));
  if (asked) // Of a worker that died while the group joined; or the client has made it.
    backend->ioas_ = Ioas::adopt(backend->iommufd_, legacy.ioas_id);
  else
    VFIO_SHIM_TRY(backend->make_ioas());
  return backend;
}

Result<std::unique_ptr<Backend>> IommufdBackend::adopt(const topology::Roots &roots,
                                                       const BackendNeeds &needs,
                                                       const BackendState &state,
                                                       const BackendTerms &terms) {
  KeptFile kept = KeptFile::adopt(state.file, *needs.store);
  if (!kept)
    return fail(ENOENT, "the container's iommufd has not been kept");
  std::unique_ptr<IommufdBackend> backend(new IommufdBackend(std::move(kept), needs));
  backend->ioas_ = Ioas::adopt(backend->iommufd_, state.ioas);
  backend->share_with_client(terms.shared);
  backend->window_ = terms.window;
  backend->tracking_dirty_ = terms.tracking_dirty;
  for (const BackendState::Group &group : state.groups)
    backend->adopt(group, topology::find(group.id, roots).value_or(topology::Group{group.id, {}}));
  if (!terms.shared)
    backend->sweep();
  return backend;
}

void IommufdBackend::adopt(const BackendState::Group &group, const topology::Group &present) {
  ClaimedGroup &claimed = claimed_[group.id];
  if (group.domain != 0) {
    for (const auto &[id, other] : claimed_)
      if (other.domain && other.domain->id() == group.domain)
        claimed.domain = other.domain;
    if (!claimed.domain)
      claimed.domain = Domain::adopt(iommufd_, group.domain, group.tracks_dirty);
  }
  for (const BackendState::Device &device : group.devices) {
    const auto there = std::ranges::find(present.devices, device.name, &topology::Device::name);
    claimed.devices.push_back(BoundDevice::adopt(
        there != present.devices.end() ? *there : topology::Device{.name = device.name, .cdev = {}},
        device, *store_, device_memory_.get()));
  }
  for (const topology::Device &device : present.devices)
    if (find(group.id, device.name) == nullptr)
      claimed.devices.emplace_back(device);
}

/// Destroys what nobody knows of: layers of the one before, and what it had just made.
void IommufdBackend::sweep() {
  constexpr std::uint32_t most_objects = 1024; // Ids are given out from 1 on, the lowest first.
  for (auto &[id, group] : claimed_)
    for (BoundDevice &device : group.devices)
      if (device.held() && !device.attached())
        device.detach();
  std::set<std::uint32_t> known{ioas_->id()};
  for (const auto &domain : domains())
    known.insert(domain->id());
  for (std::uint32_t id = 1; id <= most_objects; ++id)
    if (!known.contains(id))
      destroy_object(iommufd_, id); // Not a device, which the kernel itself uses.
}

BackendState IommufdBackend::describe() const {
  BackendState state{.file = file_.number(), .ioas = ioas_->id()};
  for (const auto &[id, group] : claimed_) {
    auto &described = state.groups.emplace_back(BackendState::Group{.id = id});
    if (group.domain) {
      described.domain = group.domain->id();
      described.tracks_dirty = group.domain->can_track_dirty();
    }
    for (const BoundDevice &device : group.devices)
      if (device.bound())
        described.devices.push_back(device.describe());
  }
  return state;
}

Result<void> IommufdBackend::make_ioas() {
  auto made = Ioas::make(iommufd_);
  if (!made)
    return pass_on(made);
  ioas_ = std::move(*made);
  share_with_client(false);
  abi::IommuVfioIoas legacy{.ioas_id = ioas_->id(), .op = abi::vfio_ioas_set};
  return run_ioctl(iommufd_, abi::iommu_vfio_ioas, &legacy, "IOMMU_VFIO_IOAS_SET");
}

IommufdBackend::~IommufdBackend() {
  if (ioas_)
    (void)unmap({Iova{0}, Iova{UINT64_MAX}});
}

Result<void> IommufdBackend::keep_usable(IovaRange window) {
  VFIO_SHIM_TRY(ioas_->keep_usable(window));
  window_ = window;
  return {};
}

Result<void> IommufdBackend::claim(const topology::Group &group) {
  Devices devices;
  for (const topology::Device &device : group.devices)
    devices.emplace_back(device);
  VFIO_SHIM_TRY(ensure_anchor(devices));
  claimed_.insert_or_assign(group.id, ClaimedGroup{.domain = {}, .devices = std::move(devices)});
  note_change();
  return {};
}

Result<void> IommufdBackend::attach_claimed() {
  Result<void> all;
  for (auto &[id, group] : claimed_)
    if (auto done = attach_all_of(group); !done && all)
      all = std::move(done);
  return all;
}

Result<void> IommufdBackend::attach_all_of(ClaimedGroup &group) {
  VFIO_SHIM_TRY(ensure_anchor(group.devices));
  for (BoundDevice &device : group.devices)
    if (device.bound() && !device.attached())
      VFIO_SHIM_TRY(attach(group, device));
  return {};
}

void IommufdBackend::follow(const topology::Group &present) {
  const auto found = claimed_.find(present.id);
  if (found == claimed_.end())
    return;
  Devices &devices = found->second.devices;
  Devices leaving;
  for (BoundDevice &device : devices)
    if (device.held() && !is_among(present.devices, device.device()))
      leaving.push_back(std::exchange(device, BoundDevice(device.device())));
  if (leaving.empty())
    return;
  std::erase_if(devices, [&](const BoundDevice &device) {
    return !device.bound() && !is_among(present.devices, device.device());
  });
  for (const topology::Device &device : present.devices)
    if (find(present.id, device.name) == nullptr)
      devices.emplace_back(device);
  // The others are bound before the leaving ones are closed: nobody can take the group meanwhile.
  // Where that fails, the next attach_claimed() tries again, and says so.
  (void)ensure_anchor(devices);
  note_change();
}

void IommufdBackend::release(GroupId group) {
  claimed_.erase(group);
  note_change();
}

Result<AddressSpace> IommufdBackend::address_space() {
  const auto traits = domain_traits(iommufd_);
  if (!traits)
    return pass_on(traits);
  auto usable = ioas_->usable();
  if (!usable)
    return pass_on(usable);
  return AddressSpace{
      .usable = std::move(*usable), .page_sizes = traits->page_sizes, .coherent = traits->coherent};
}

Result<void> IommufdBackend::map(Client &client, const MapRequest &request) {
  auto parts = client.memory_parts(request.vaddr, request.size, request.access);
  if (!parts)
    return pass_on(parts);
  if (staging_ &&
      std::ranges::any_of(*parts, [](const MemoryPart &part) { return !part.by_file.file; }))
    VFIO_SHIM_TRY(staging_->admit(client));
  for (const MemoryPart &part : *parts) {
    const Bytes before = part.start - request.vaddr;
    auto mapped = map_part(client, request.iova + before, part, request.access);
    if (!mapped) {
      // This part may be mapped as well: by a client that died then, or one where the kernel could
      // not write its answer. Unless somebody else has mapped there.
      const bool others_may = !staging_ || mapped.error().code == EEXIST;
      const Bytes ours = others_may ? before : request.size;
      if (ours.value != 0)
        (void)unmap({request.iova, Iova{request.iova.value + ours.value - 1}});
      return mapped;
    }
  }
  return {};
}

/// The client has been admitted to staging, if the part has no file.
Result<void> IommufdBackend::map_part(Client &client, Iova iova, const MemoryPart &part,
                                      Access access) {
  if (part.by_file.file)
    return ioas_->map_file(iova, part, access);
  if (staging_ && !part.pin_in_client && staging_->map(client, iova, part.start, part.size, access))
    return {};
  return ioas_->map_addresses(client, iova, part.start, part.size, access);
}

Result<void> IommufdBackend::unmap(IovaRange range) {
  VFIO_SHIM_TRY(ioas_->unmap(range));
  if (staging_)
    staging_->unmapped(range);
  return {};
}

Result<Fd> IommufdBackend::file_for_client(std::uint64_t iommu_type) {
  // TYPE1 can cut its mappings anywhere: the kernel has to know before there are any.
  if (iommu_type != 0 &&
      ::ioctl(iommufd_.get(), VFIO_SET_IOMMU, static_cast<unsigned long>(iommu_type)) != 0)
    return fail_errno("VFIO_SET_IOMMU on iommufd");
  Fd copy = iommufd_.duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

/// Whoever holds the iommufd could reach all that is staged.
void IommufdBackend::share_with_client(bool shared) {
  staging_ = shared ? nullptr : std::make_unique<Staging>(iommufd_, *ioas_);
}

Result<Bytes> IommufdBackend::unmap_as_client(std::uint32_t flags, Iova iova, Bytes size) {
  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  unmap.flags = flags;
  unmap.iova = iova.value;
  unmap.size = size.value;
  VFIO_SHIM_TRY(
      run_ioctl(iommufd_, VFIO_IOMMU_UNMAP_DMA, &unmap, "VFIO_IOMMU_UNMAP_DMA on iommufd"));
  return Bytes{unmap.size};
}

Result<void> IommufdBackend::track_dirty(bool on) {
  VFIO_SHIM_TRY(vfio_shim::track_dirty(domains(), on));
  tracking_dirty_ = on;
  return {};
}

Result<void> IommufdBackend::report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                                          std::span<std::uint64_t> bitmap) {
  return vfio_shim::report_dirty(domains(), range, page_size, after, bitmap);
}

Result<Fd> IommufdBackend::open_device(GroupId group, const topology::Device &device) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return fail(EINVAL, fmt::format("group {} is not claimed", group.value));
  ClaimedGroup &claimed = found->second;
  BoundDevice *known = find(group, device.name);
  if (known == nullptr)
    known = &claimed.devices.emplace_back(device); // Plugged in since.
  if (!known->still_bound(iommufd_))
    VFIO_SHIM_TRY(bind(*known, device)); // The cdev's number may have changed.
  else if (!known->held())
    return fail(EBUSY, fmt::format("device {} is open already", device.name));
  if (!known->attached())
    VFIO_SHIM_TRY(attach(claimed, *known));
  if (device_memory_)
    VFIO_SHIM_TRY(known->export_bars(*device_memory_, *store_));
  note_change();
  return known->copy_of_file();
}

void IommufdBackend::given_away(GroupId group, std::string_view name) {
  BoundDevice *device = find(group, name);
  if (device != nullptr && device->held()) {
    device->give_away();
    note_change();
  }
}

std::vector<std::string> IommufdBackend::open_devices(GroupId group) {
  std::vector<std::string> open;
  const auto found = claimed_.find(group);
  if (found != claimed_.end())
    for (BoundDevice &device : found->second.devices)
      if (!device.held() && device.still_bound(iommufd_))
        open.push_back(device.device().name);
  return open;
}

Result<void> IommufdBackend::ensure_anchor(Devices &devices) {
  if (std::ranges::any_of(devices,
                          [this](BoundDevice &device) { return device.still_bound(iommufd_); }))
    return {};
  Result<void> anchored = fail(ENODEV, "group without a VFIO cdev");
  for (BoundDevice &device : devices) { // The first may have been unplugged.
    anchored = bind(device, device.device());
    if (anchored)
      break;
  }
  return anchored;
}

Result<void> IommufdBackend::bind(BoundDevice &device, const topology::Device &as_it_is_now) {
  VFIO_SHIM_TRY(device.bind(as_it_is_now, iommufd_, *store_));
  note_change();
  // The kernel reuses object ids: a new device's id means that the id's former owner is gone.
  for (auto &[id, group] : claimed_)
    for (BoundDevice &other : group.devices)
      if (&other != &device && other.bound() && other.devid() == device.devid())
        other.forget();
  return {};
}

/// Attaches the device to its group's domain, or to any that suits it, or to a new one.
Result<void> IommufdBackend::attach(ClaimedGroup &group, BoundDevice &device) {
  note_change();
  if (!device.held())
    return fail(EBUSY, fmt::format("device {} is not attached and not ours", device.device().name));
  const auto candidates = group.domain ? Domains{group.domain} : domains();
  for (const auto &candidate : candidates) {
    const auto attached = device.attach(candidate->id());
    if (attached || attached.error().code != EINVAL || group.domain) {
      group.domain = attached ? candidate : group.domain;
      return explained(device, attached);
    }
  }

  auto made = make_domain(device);
  if (!made)
    return explained(device, pass_on(made));
  const auto attached = device.attach((*made)->id());
  if (!attached)
    return explained(device, attached);
  group.domain = std::move(*made);
  return {};
}

/// A reserved region of the device lies where something is mapped, or in the window: type1 says
/// EINVAL.
Result<void> IommufdBackend::explained(BoundDevice &device, Result<void> result) {
  // To iommufd a device that its driver emulates is none: what is bound has another kind of object.
  if (!result && result.error().code == ENOENT)
    return fail_for_operator(
        ENOENT,
        fmt::format("device {} is a mediated device (a vGPU, for example): vfio-shim cannot "
                    "serve these on iommufd yet",
                    device.device().name));
  if (result || result.error().code != EADDRINUSE)
    return result;
  if (const auto hole = hole_in_window(device))
    return fail_for_operator(EINVAL,
                             fmt::format("the IOVA window {} has a hole: device {} cannot use {}",
                                         *window_, device.device().name, *hole));
  return fail(EINVAL, result.error().where);
}

/// What of the window the device cannot use, as it shows in an empty address space. Nothing if that
/// is not what keeps the device out.
std::optional<IovaRange> IommufdBackend::hole_in_window(BoundDevice &device) {
  if (!window_)
    return std::nullopt;
  const auto empty = Ioas::make(iommufd_);
  if (!empty || !device.attach((*empty)->id()))
    return std::nullopt;
  const auto usable = (*empty)->usable();
  device.detach();
  return usable ? first_hole(*usable, *window_) : std::nullopt;
}

Result<std::shared_ptr<Domain>> IommufdBackend::make_domain(const BoundDevice &device) {
  auto made = Domain::make(iommufd_, ioas_->id(), device.devid());
  if (!made)
    return pass_on(made);
  if (tracking_dirty_ && (*made)->can_track_dirty())
    VFIO_SHIM_TRY((*made)->track_dirty(true));
  return std::shared_ptr<Domain>(std::move(*made));
}

Domains IommufdBackend::domains() const {
  Domains all;
  for (const auto &[id, group] : claimed_)
    if (group.domain && std::ranges::find(all, group.domain) == all.end())
      all.push_back(group.domain);
  return all;
}

BoundDevice *IommufdBackend::find(GroupId group, std::string_view name) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return nullptr;
  auto &devices = found->second.devices;
  const auto device = std::ranges::find(devices, name, [](const BoundDevice &candidate) {
    return std::string_view(candidate.device().name);
  });
  return device == devices.end() ? nullptr : &*device;
}

} // namespace vfio_shim
