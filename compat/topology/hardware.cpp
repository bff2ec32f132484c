// SPDX-License-Identifier: MIT
#include "vfio_shim/hardware.hpp"

#include "abi/iommufd.hpp"
#include "backend/bound_device.hpp"
#include "backend/ioas.hpp"
#include "backend/ioctl.hpp"
#include "backend/iommufd.hpp"
#include "topology/device_file.hpp"

#include <algorithm>
#include <array>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>

namespace vfio_shim::hardware {

namespace {

/// Binds the device to @p iommufd. @return Its object id there.
Result<std::uint32_t> bind(const Fd &cdev, const Fd &iommufd) {
  auto bound = bind_to(iommufd, cdev);
  if (bound)
    return bound;
  // EINVAL: this cdev is bound. EPERM: another one of its group is. EBUSY: the group's node is
  // open.
  const int code = bound.error().code;
  return fail(code == EINVAL || code == EPERM ? EBUSY : code, bound.error().where);
}

/// Whether the IOMMU makes a domain that guests' page tables can be nested in.
bool can_nest(const Fd &iommufd, std::uint32_t device) {
  const auto ioas = Ioas::make(iommufd);
  if (!ioas)
    return false;
  abi::IommuHwptAlloc alloc{
      .flags = abi::hwpt_alloc_nest_parent, .dev_id = device, .pt_id = (*ioas)->id()};
  return run_ioctl(iommufd, abi::iommu_hwpt_alloc, &alloc, "IOMMU_HWPT_ALLOC").has_value();
}

/// All but the address space.
Result<Description> describe_unattached(const topology::Device &device,
                                        const topology::Roots &roots) {
  const std::filesystem::path iommu_node = roots.dev / "iommu";
  const Fd iommufd{::open(iommu_node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!iommufd)
    return fail_errno(iommu_node);
  const auto cdev = topology::open_cdev(device, roots);
  if (!cdev)
    return pass_on(cdev);
  const auto bound = bind(*cdev, iommufd);
  if (!bound)
    return pass_on(bound);
  abi::IommuHwInfo info{.dev_id = *bound};
  VFIO_SHIM_TRY(run_ioctl(iommufd, abi::iommu_get_hw_info, &info, "IOMMU_GET_HW_INFO"));
  return Description{
      .iommu_type = info.out_data_type,
      .capabilities = {.space = {},
                       .dirty_tracking = (info.out_capabilities & abi::hw_cap_dirty_tracking) != 0,
                       .nesting = can_nest(iommufd, *bound),
                       .pasid_bits = info.out_max_pasid_log2,
                       .ats = (info.out_capabilities & abi::hw_cap_pci_ats_not_supported) == 0}};
}

std::vector<IovaRange> common(const std::vector<IovaRange> &one,
                              const std::vector<IovaRange> &other) {
  std::vector<IovaRange> both;
  for (const IovaRange &left : one)
    for (const IovaRange &right : other) {
      const IovaRange range{std::max(left.first, right.first), std::min(left.last, right.last)};
      if (range.first <= range.last)
        both.push_back(range);
    }
  return both;
}

/// All IOVAs but those of @p hole.
std::vector<IovaRange> around(const IovaRange &hole) {
  std::vector<IovaRange> rest;
  if (hole.first.value != 0)
    rest.push_back({Iova{0}, Iova{hole.first.value - 1}});
  if (hole.last.value != UINT64_MAX)
    rest.push_back({Iova{hole.last.value + 1}, Iova{UINT64_MAX}});
  return rest;
}

} // namespace

std::string iommu_type_name(std::uint32_t type) {
  // Source: enum iommu_hw_info_type in include/uapi/linux/iommufd.h.
  constexpr std::array<const char *, 5> names = {"none", "intel-vtd", "arm-smmuv3",
                                                 "tegra241-cmdqv", "amd"};
  return type < names.size() ? names[type] : fmt::format("type {}", type);
}

Result<Description> describe(const topology::Device &device, GroupId group,
                             const topology::Roots &roots) {
  auto description = describe_unattached(device, roots);
  if (!description)
    return description;
  const auto backend = IommufdBackend::create(roots.dev / "iommu");
  if (!backend)
    return pass_on(backend);
  VFIO_SHIM_TRY((*backend)->claim({.id = group, .devices = {device}}));
  VFIO_SHIM_TRY((*backend)->attach_claimed());
  auto space = (*backend)->address_space();
  if (!space)
    return pass_on(space);
  description->capabilities.space = std::move(*space);
  return description;
}

std::vector<Reserved> reserved_ranges(GroupId group, const topology::Roots &roots) {
  std::ifstream file(roots.sys / "kernel/iommu_groups" / std::to_string(group.value) /
                     "reserved_regions");
  std::vector<Reserved> ranges;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::string type;
  while (file >> std::hex >> first >> last >> type)
    ranges.push_back({.range = {Iova{first}, Iova{last}}, .type = type});
  return ranges;
}

void leave_out(AddressSpace &space, const std::vector<Reserved> &reserved) {
  for (const Reserved &hole : reserved)
    if (hole.type != "direct-relaxable")
      space.usable = common(space.usable, around(hole.range));
}

Capabilities least_common(const Capabilities &one, const Capabilities &other) {
  return {.space = {.usable = common(one.space.usable, other.space.usable),
                    .page_sizes = one.space.page_sizes & other.space.page_sizes,
                    .coherent = one.space.coherent && other.space.coherent},
          .dirty_tracking = one.dirty_tracking && other.dirty_tracking,
          .nesting = one.nesting && other.nesting,
          .pasid_bits = std::min(one.pasid_bits, other.pasid_bits),
          .ats = one.ats && other.ats};
}

} // namespace vfio_shim::hardware
