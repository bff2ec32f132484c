#include "backend/iommufd.hpp"

#include "abi/iommufd.hpp"
#include "abi/vfio.hpp"

#include <algorithm>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

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

Result<void> attach_to(const Fd &device, std::uint32_t hwpt_id) {
  abi::DeviceAttachIommufdPt attach{.argsz = sizeof(attach), .flags = 0, .pt_id = hwpt_id};
  return run_ioctl(device, abi::device_attach_iommufd_pt, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

/// A reserved region of a device lies where something is mapped: type1 says EINVAL.
Result<void> reserved_is_invalid(Result<void> result) {
  if (!result && result.error().code == EADDRINUSE)
    return fail(EINVAL, result.error().where);
  return result;
}

} // namespace

Result<void> run_ioctl(const Fd &file, unsigned long command, void *argument, const char *what) {
  if (::ioctl(file.get(), command, argument) != 0)
    return fail_errno(what);
  return {};
}

Result<std::unique_ptr<Backend>> IommufdBackend::create(const std::filesystem::path &iommu_node) {
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

  return std::unique_ptr<Backend>(new IommufdBackend(std::move(iommufd), alloc.out_ioas_id));
}

IommufdBackend::~IommufdBackend() {
  (void)unmap({Iova{0}, Iova{UINT64_MAX}});
}

Result<void> IommufdBackend::claim(const topology::Group &group) {
  Devices devices;
  for (const topology::Device &device : group.devices)
    devices.emplace_back(device);
  VFIO_SHIM_TRY(ensure_anchor(devices));
  claimed_.insert_or_assign(group.id, ClaimedGroup{.devices = std::move(devices), .hwpt_id = 0});
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

void IommufdBackend::release(GroupId group) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return;
  const std::uint32_t hwpt_id = found->second.hwpt_id;
  claimed_.erase(found);
  destroy_domain_unless_used(hwpt_id);
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
    const auto mapped = map_part(client, request.iova + before, part, request.access);
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
    return run_ioctl(iommufd_, abi::iommu_ioas_map_file, &map, "IOMMU_IOAS_MAP_FILE");
  }
  const abi::IommuIoasMap map{.flags = map_flags(access),
                              .ioas_id = ioas_id_,
                              .user_va = part.start.value,
                              .length = part.size.value,
                              .iova = iova.value};
  const auto mapped =
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
  const auto done = run_ioctl(iommufd_, abi::iommu_ioas_unmap, &unmap, "IOMMU_IOAS_UNMAP");
  if (!done && done.error().code == ENOENT && unmap.length != 0)
    return {}; // Nothing was there: to type1's clients that is a success.
  return done;
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
  Fd copy{::fcntl(known->anchor.get(), F_DUPFD_CLOEXEC, 0)};
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

void IommufdBackend::given_away(GroupId group, std::string_view name) {
  if (BoundDevice *device = find(group, name))
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
  const auto bound = run_ioctl(cdev, abi::device_bind_iommufd, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
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
  std::vector<std::uint32_t> candidates;
  if (group.hwpt_id != 0)
    candidates.push_back(group.hwpt_id);
  else
    for (const auto &[id, other] : claimed_)
      if (other.hwpt_id != 0)
        candidates.push_back(other.hwpt_id);
  for (const std::uint32_t candidate : candidates) {
    const auto attached = attach_to(device.anchor, candidate);
    if (attached || attached.error().code != EINVAL || group.hwpt_id != 0) {
      device.attached = attached.has_value();
      group.hwpt_id = attached ? candidate : group.hwpt_id;
      return reserved_is_invalid(attached);
    }
  }

  const auto made = make_domain(device);
  if (!made)
    return reserved_is_invalid(Result<void>(pass_on(made)));
  const auto attached = attach_to(device.anchor, *made);
  if (!attached) {
    destroy_domain_unless_used(*made);
    return reserved_is_invalid(attached);
  }
  group.hwpt_id = *made;
  device.attached = true;
  return {};
}

Result<std::uint32_t> IommufdBackend::make_domain(const BoundDevice &device) {
  abi::IommuHwptAlloc alloc{.dev_id = device.devid, .pt_id = ioas_id_};
  VFIO_SHIM_TRY(run_ioctl(iommufd_, abi::iommu_hwpt_alloc, &alloc, "IOMMU_HWPT_ALLOC"));
  return alloc.out_hwpt_id;
}

void IommufdBackend::destroy_domain_unless_used(std::uint32_t hwpt_id) {
  const bool used = std::ranges::any_of(
      claimed_, [hwpt_id](const auto &entry) { return entry.second.hwpt_id == hwpt_id; });
  if (hwpt_id == 0 || used)
    return;
  // EBUSY: a device of a group that was told to leave is still open at its client.
  abi::IommuDestroy destroy{.id = hwpt_id};
  (void)run_ioctl(iommufd_, abi::iommu_destroy, &destroy, "IOMMU_DESTROY");
}

/// Asks the kernel, because the client can close its device without telling anybody.
bool IommufdBackend::still_bound(BoundDevice &device) {
  if (!device.bound || device.anchor)
    return device.bound;
  abi::IommuHwInfo info{.dev_id = device.devid};
  if (!run_ioctl(iommufd_, abi::iommu_get_hw_info, &info, "IOMMU_GET_HW_INFO"))
    device.bound = device.attached = false;
  return device.bound;
}

/// The kernel reuses object ids: a new device's id means that the id's former owner is gone.
void IommufdBackend::forget_object(std::uint32_t devid) {
  for (auto &[id, group] : claimed_)
    for (BoundDevice &device : group.devices)
      if (device.bound && device.devid == devid)
        device.bound = device.attached = false;
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
