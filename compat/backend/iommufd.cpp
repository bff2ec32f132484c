#include "backend/iommufd.hpp"

#include "abi/iommufd.hpp"
#include "abi/vfio.hpp"
#include "backend/ioctl.hpp"

#include <algorithm>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include "iova_window.hpp"

namespace vfio_shim {

namespace {

std::uint32_t map_flags(Access access) {
  return abi::ioas_map_fixed_iova | (access.read ? abi::ioas_map_readable : 0U) |
         (access.write ? abi::ioas_map_writeable : 0U);
}

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
  return DomainTraits{.page_sizes = info.iova_pgsizes, .coherent = coherent == 1};
}

Result<std::vector<IovaRange>> usable_ranges(const Fd &iommufd, std::uint32_t ioas_id) {
  std::vector<abi::IommuIovaRange> ranges(16);
  abi::IommuIoasIovaRanges query{.ioas_id = ioas_id};
  for (;;) {
    query.num_iovas = static_cast<std::uint32_t>(ranges.size());
    query.allowed_iovas = reinterpret_cast<std::uintptr_t>(ranges.data());
    const auto asked =
        run_ioctl(iommufd, abi::iommu_ioas_iova_ranges, &query, "IOMMU_IOAS_IOVA_RANGES");
    if (asked)
      break;
    if (asked.error().code != EMSGSIZE)
      return pass_on(asked);
    ranges.resize(query.num_iovas);
  }
  std::vector<IovaRange> usable;
  for (const auto &range : std::span(ranges).first(query.num_iovas))
    usable.push_back({Iova{range.start}, Iova{range.last}});
  return usable;
}

/// @param page_table An IOAS or a domain.
Result<void> attach_to(const Fd &device, std::uint32_t page_table) {
  abi::DeviceAttachIommufdPt attach{.argsz = sizeof(attach), .flags = 0, .pt_id = page_table};
  return run_ioctl(device, abi::device_attach_iommufd_pt, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

void detach(const Fd &device) {
  abi::DeviceDetachIommufdPt detach{.argsz = sizeof(detach), .flags = 0};
  (void)run_ioctl(device, abi::device_detach_iommufd_pt, &detach, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
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

Result<std::unique_ptr<Backend>>
IommufdBackend::create(const std::filesystem::path &iommu_node,
                       std::shared_ptr<DeviceMemory> device_memory) {
  Fd iommufd{::open(iommu_node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!iommufd)
    return fail_errno(iommu_node);

  // Must come before any object exists; needs CAP_SYS_RESOURCE.
  abi::IommuOption option{
      .option_id = abi::option_rlimit_mode, .op = abi::option_op_set, .val64 = 1};
  VFIO_SHIM_TRY(run_ioctl(iommufd, abi::iommu_option, &option, "IOMMU_OPTION_RLIMIT_MODE"));

  abi::IommuIoasAlloc alloc;
  VFIO_SHIM_TRY(run_ioctl(iommufd, abi::iommu_ioas_alloc, &alloc, "IOMMU_IOAS_ALLOC"));
  abi::IommuVfioIoas legacy{.ioas_id = alloc.out_ioas_id, .op = abi::vfio_ioas_set};
  VFIO_SHIM_TRY(run_ioctl(iommufd, abi::iommu_vfio_ioas, &legacy, "IOMMU_VFIO_IOAS_SET"));

  return std::unique_ptr<Backend>(
      new IommufdBackend(std::move(iommufd), alloc.out_ioas_id, std::move(device_memory)));
}

IommufdBackend::~IommufdBackend() {
  (void)unmap({Iova{0}, Iova{UINT64_MAX}});
  claimed_.clear();
  destroy_object(iommufd_, ioas_id_);
}

Result<void> IommufdBackend::keep_usable(IovaRange window) {
  const abi::IommuIovaRange range{.start = window.first.value, .last = window.last.value};
  abi::IommuIoasAllowIovas allow{.ioas_id = ioas_id_,
                                 .num_iovas = 1,
                                 .allowed_iovas = reinterpret_cast<std::uintptr_t>(&range)};
  VFIO_SHIM_TRY(run_ioctl(iommufd_, abi::iommu_ioas_allow_iovas, &allow, "IOMMU_IOAS_ALLOW_IOVAS"));
  window_ = window;
  return {};
}

Result<void> IommufdBackend::claim(const topology::Group &group) {
  Devices devices;
  for (const topology::Device &device : group.devices)
    devices.emplace_back(device);
  VFIO_SHIM_TRY(ensure_anchor(devices));
  claimed_.insert_or_assign(group.id, ClaimedGroup{.domain = {}, .devices = std::move(devices)});
  return {};
}

Result<void> IommufdBackend::attach_claimed() {
  for (auto &[id, group] : claimed_) {
    VFIO_SHIM_TRY(ensure_anchor(group.devices));
    for (BoundDevice &device : group.devices)
      if (device.bound && !device.attached)
        VFIO_SHIM_TRY(attach(group, device));
  }
  return {};
}

void IommufdBackend::follow(const topology::Group &present) {
  const auto found = claimed_.find(present.id);
  if (found == claimed_.end())
    return;
  Devices &devices = found->second.devices;
  Devices leaving;
  for (BoundDevice &device : devices)
    if (device.anchor && !is_among(present.devices, device.device))
      leaving.push_back(std::exchange(device, BoundDevice(device.device)));
  if (leaving.empty())
    return;
  std::erase_if(devices, [&](const BoundDevice &device) {
    return !device.bound && !is_among(present.devices, device.device);
  });
  for (const topology::Device &device : present.devices)
    if (find(present.id, device.name) == nullptr)
      devices.emplace_back(device);
  // The others are bound before the leaving ones are closed: nobody can take the group meanwhile.
  // Where that fails, the next attach_claimed() tries again, and says so.
  (void)ensure_anchor(devices);
}

void IommufdBackend::release(GroupId group) {
  claimed_.erase(group);
}

Result<AddressSpace> IommufdBackend::address_space() {
  const auto traits = domain_traits(iommufd_);
  if (!traits)
    return pass_on(traits);
  auto usable = usable_ranges(iommufd_, ioas_id_);
  if (!usable)
    return pass_on(usable);
  return AddressSpace{
      .usable = std::move(*usable), .page_sizes = traits->page_sizes, .coherent = traits->coherent};
}

Result<void> IommufdBackend::map(Client &client, const MapRequest &request) {
  auto parts = client.memory_parts(request.vaddr, request.size, request.access);
  if (!parts)
    return pass_on(parts);
  for (const MemoryPart &part : *parts) {
    const Bytes before = part.start - request.vaddr;
    auto mapped = map_part(client, request.iova + before, part, request.access);
    if (!mapped) {
      // A client that died may have mapped this part as well: its outcome is not known.
      const Bytes done = mapped.error().code == ESRCH ? request.size : before;
      if (done.value != 0)
        (void)unmap({request.iova, Iova{request.iova.value + done.value - 1}});
      return mapped;
    }
  }
  return {};
}

Result<void> IommufdBackend::map_part(Client &client, Iova iova, const MemoryPart &part,
                                      Access access) {
  if (part.by_file.file) {
    abi::IommuIoasMapFile map{.flags = map_flags(access),
                              .ioas_id = ioas_id_,
                              .fd = part.by_file.file.get(),
                              .start = part.by_file.offset.value,
                              .length = part.size.value,
                              .iova = iova.value};
    auto mapped = run_ioctl(iommufd_, abi::iommu_ioas_map_file, &map, "IOMMU_IOAS_MAP_FILE");
    // Device memory that the device does not answer to: its decoding is off.
    if (!mapped && mapped.error().code == ENODEV)
      return fail(EFAULT, mapped.error().where);
    return mapped;
  }
  const abi::IommuIoasMap map{.flags = map_flags(access),
                              .ioas_id = ioas_id_,
                              .user_va = part.start.value,
                              .length = part.size.value,
                              .iova = iova.value};
  auto mapped =
      client.ioctl_in_client(iommufd_, abi::iommu_ioas_map, std::as_bytes(std::span(&map, 1)));
  // The addresses do not wrap, type1 has seen to that: there is no such memory.
  if (!mapped && mapped.error().code == EOVERFLOW)
    return fail(EFAULT, mapped.error().where);
  return mapped;
}

Result<void> IommufdBackend::unmap(IovaRange range) {
  const bool everything = range.first.value == 0 && range.last.value == UINT64_MAX;
  abi::IommuIoasUnmap unmap{.ioas_id = ioas_id_,
                            .iova = range.first.value,
                            .length =
                                everything ? UINT64_MAX : range.last.value - range.first.value + 1};
  auto done = run_ioctl(iommufd_, abi::iommu_ioas_unmap, &unmap, "IOMMU_IOAS_UNMAP");
  if (!done && done.error().code == ENOENT && unmap.length != 0)
    return {}; // Nothing was there: to type1's clients that is a success.
  return done;
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
  if (!still_bound(*known)) {
    known->device = device; // The cdev's number may have changed.
    VFIO_SHIM_TRY(bind(*known));
  } else if (!known->anchor) {
    return fail(EBUSY, fmt::format("device {} is open already", device.name));
  }
  if (!known->attached)
    VFIO_SHIM_TRY(attach(claimed, *known));
  Fd copy = known->anchor.duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

void IommufdBackend::given_away(GroupId group, std::string_view name) {
  BoundDevice *device = find(group, name);
  if (device == nullptr || !device->anchor)
    return;
  if (device_memory_)
    device->bars = device_memory_->add(device->anchor);
  device->anchor.reset();
}

std::vector<std::string> IommufdBackend::open_devices(GroupId group) {
  std::vector<std::string> open;
  const auto found = claimed_.find(group);
  if (found != claimed_.end())
    for (BoundDevice &device : found->second.devices)
      if (!device.anchor && still_bound(device))
        open.push_back(device.device.name);
  return open;
}

Result<void> IommufdBackend::ensure_anchor(Devices &devices) {
  if (std::ranges::any_of(devices, [this](BoundDevice &device) { return still_bound(device); }))
    return {};
  Result<void> anchored = fail(ENODEV, "group without a VFIO cdev");
  for (BoundDevice &device : devices) { // The first may have been unplugged.
    anchored = bind(device);
    if (anchored)
      break;
  }
  return anchored;
}

Result<void> IommufdBackend::bind(BoundDevice &device) {
  Fd cdev{::open(device.device.cdev.c_str(), O_RDWR | O_CLOEXEC)};
  if (!cdev)
    return fail_errno(device.device.cdev);
  abi::DeviceBindIommufd bind{
      .argsz = sizeof(bind), .flags = 0, .iommufd = iommufd_.get(), .out_devid = 0};
  auto bound = run_ioctl(cdev, abi::device_bind_iommufd, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
  if (!bound) {
    // EINVAL: another process has this cdev bound, so it owns the group's DMA. Claiming a group
    // that is owned is EPERM.
    if (bound.error().code == EINVAL)
      return fail(EPERM, fmt::format("device {} is open elsewhere", device.device.name));
    return bound;
  }
  forget_object(bind.out_devid);
  device.devid = bind.out_devid;
  device.bound = true;
  device.attached = false;
  device.anchor = std::move(cdev);
  return {};
}

/// Attaches the device to its group's domain, or to any that suits it, or to a new one.
Result<void> IommufdBackend::attach(ClaimedGroup &group, BoundDevice &device) {
  if (!device.anchor)
    return fail(EBUSY, fmt::format("device {} is not attached and not ours", device.device.name));
  const auto candidates = group.domain ? Domains{group.domain} : domains();
  for (const auto &candidate : candidates) {
    const auto attached = attach_to(device.anchor, candidate->id());
    if (attached || attached.error().code != EINVAL || group.domain) {
      device.attached = attached.has_value();
      group.domain = attached ? candidate : group.domain;
      return explained(device, attached);
    }
  }

  auto made = make_domain(device);
  if (!made)
    return explained(device, pass_on(made));
  const auto attached = attach_to(device.anchor, (*made)->id());
  if (!attached)
    return explained(device, attached);
  group.domain = std::move(*made);
  device.attached = true;
  return {};
}

/// A reserved region of the device lies where something is mapped, or in the window: type1 says
/// EINVAL.
Result<void> IommufdBackend::explained(BoundDevice &device, Result<void> result) {
  if (result || result.error().code != EADDRINUSE)
    return result;
  if (const auto hole = hole_in_window(device))
    return fail_for_operator(EINVAL,
                             fmt::format("the IOVA window {} has a hole: device {} cannot use {}",
                                         *window_, device.device.name, *hole));
  return fail(EINVAL, result.error().where);
}

/// What of the window the device cannot use, as it shows in an empty address space. Nothing if that
/// is not what keeps the device out.
std::optional<IovaRange> IommufdBackend::hole_in_window(BoundDevice &device) {
  abi::IommuIoasAlloc empty;
  if (!window_ || !run_ioctl(iommufd_, abi::iommu_ioas_alloc, &empty, "IOMMU_IOAS_ALLOC"))
    return std::nullopt;
  std::optional<IovaRange> hole;
  if (attach_to(device.anchor, empty.out_ioas_id)) {
    if (const auto usable = usable_ranges(iommufd_, empty.out_ioas_id))
      hole = first_hole(*usable, *window_);
    detach(device.anchor);
  }
  destroy_object(iommufd_, empty.out_ioas_id);
  return hole;
}

Result<std::shared_ptr<Domain>> IommufdBackend::make_domain(const BoundDevice &device) {
  auto made = Domain::make(iommufd_, ioas_id_, device.devid);
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

/// Asks the kernel, because the client can close its device without telling anybody.
bool IommufdBackend::still_bound(BoundDevice &device) {
  if (!device.bound || device.anchor)
    return device.bound;
  abi::IommuHwInfo info{.dev_id = device.devid};
  if (!run_ioctl(iommufd_, abi::iommu_get_hw_info, &info, "IOMMU_GET_HW_INFO"))
    device.forget();
  return device.bound;
}

/// The kernel reuses object ids: a new device's id means that the id's former owner is gone.
void IommufdBackend::forget_object(std::uint32_t devid) {
  for (auto &[id, group] : claimed_)
    for (BoundDevice &device : group.devices)
      if (device.bound && device.devid == devid)
        device.forget();
}

IommufdBackend::BoundDevice *IommufdBackend::find(GroupId group, std::string_view name) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return nullptr;
  auto &devices = found->second.devices;
  const auto device = std::ranges::find(devices, name, [](const BoundDevice &candidate) {
    return std::string_view(candidate.device.name);
  });
  return device == devices.end() ? nullptr : &*device;
}

} // namespace vfio_shim
