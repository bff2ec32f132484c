// SPDX-License-Identifier: MIT
#include "backend/kernel_compat.hpp"

#include "abi/iommufd.hpp"
#include "backend/ioctl.hpp"
#include "backend/iommufd.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>

namespace vfio_shim {

Result<void> KernelCompatBackend::check(const topology::Roots &roots) {
  std::error_code error;
  if (!std::filesystem::exists(roots.sys / "class/vfio", error)) // The class of the group nodes.
    return fail(ENODEV,
                "backend kernel-compat is not there: it needs a kernel with CONFIG_VFIO_GROUP");
  return IommufdBackend::check(roots);
}

Result<std::unique_ptr<Backend>> KernelCompatBackend::create(const topology::Roots &roots,
                                                             const BackendNeeds &needs) {
  auto file = open(roots.dev / "iommu", *needs.store);
  if (!file)
    return pass_on(file);
  return std::unique_ptr<Backend>(new KernelCompatBackend(std::move(*file), roots, needs));
}

Result<std::unique_ptr<Backend>> KernelCompatBackend::adopt(const topology::Roots &roots,
                                                            const BackendNeeds &needs,
                                                            const BackendState &state,
                                                            const BackendTerms &terms) {
  auto file = adopt_file(state, *needs.store);
  if (!file)
    return pass_on(file);
  std::unique_ptr<KernelCompatBackend> backend(
      new KernelCompatBackend(std::move(*file), roots, needs));
  backend->KernelContainer::adopt(roots, state, terms);
  backend->recognise(state);
  return backend;
}

/// A device is as often in it as it has objects.
BackendState KernelCompatBackend::describe() const {
  BackendState state = KernelContainer::describe();
  for (BackendState::Group &group : state.groups) {
    group.devices.clear();
    for (const auto &[object, device] : open_)
      if (device.group == group.id)
        group.devices.push_back({.name = device.name, .devid = object});
  }
  return state;
}

void KernelCompatBackend::recognise(const BackendState &state) {
  for (const BackendState::Group &group : state.groups)
    for (const BackendState::Device &device : group.devices)
      open_.insert_or_assign(device.devid, OpenDevice{.group = group.id, .name = device.name});
}

Result<AddressSpace> KernelCompatBackend::address_space() {
  // A device is attached as long as it is open: what its IOMMU can do is not known otherwise.
  const auto attached = open_one_of_each_group();
  if (!attached)
    return pass_on(attached);
  return KernelContainer::address_space();
}

Result<Fd> KernelCompatBackend::open_device(GroupId group, const topology::Device &device) {
  // An object that a client's close() frees just now may become this device's, and look as if it
  // had been there before. Then nothing is new, and the next try will tell.
  constexpr int tries = 3;
  for (int attempt = 0; attempt < tries; ++attempt) {
    const auto before = device_objects();
    auto file = KernelContainer::open_device(group, device);
    if (!file || note_opened(before, {.group = group, .name = device.name}))
      return file;
  }
  return fail_for_operator(
      EBUSY,
      fmt::format("device {} is open in another container, or is none to iommufd: a mediated "
                  "device, for example",
                  device.name));
}

/// Notes the object of a device that was just opened. @return Whether it is known.
bool KernelCompatBackend::note_opened(const std::set<ObjectId> &before, OpenDevice opened) {
  const auto after = device_objects();
  std::erase_if(open_, [&](const auto &entry) { return !after.contains(entry.first); });
  bool known = std::ranges::any_of(
      open_, [&](const auto &entry) { return entry.second.name == opened.name; });
  for (const ObjectId object : after)
    if (!before.contains(object)) {
      open_.insert_or_assign(object, opened);
      known = true;
    }
  KernelContainer::note_change();
  return known;
}

std::vector<std::string> KernelCompatBackend::open_devices(GroupId group) {
  std::erase_if(open_, [this](const auto &entry) { return !is_device(entry.first); });
  std::vector<std::string> names;
  for (const auto &[object, device] : open_)
    if (device.group == group)
      names.push_back(device.name);
  return names;
}

/// All of them. Ids are given out from 1 on, the lowest free one first.
std::set<KernelCompatBackend::ObjectId> KernelCompatBackend::device_objects() const {
  constexpr ObjectId most = 256; // A client that makes more of its own is given no device.
  std::set<ObjectId> found;
  for (ObjectId object = 1; object <= most; ++object)
    if (is_device(object))
      found.insert(object);
  return found;
}

bool KernelCompatBackend::is_device(ObjectId object) const {
  abi::IommuHwInfo info{.dev_id = object};
  const auto asked = run_ioctl(container(), abi::iommu_get_hw_info, &info, "IOMMU_GET_HW_INFO");
  return asked || asked.error().code != ENOENT;
}

} // namespace vfio_shim
