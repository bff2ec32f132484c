// SPDX-License-Identifier: MIT
#include "backend/bound_device.hpp"

#include "abi/iommufd.hpp"
#include "abi/vfio.hpp"
#include "backend/ioctl.hpp"
#include "topology/device_file.hpp"

#include <fmt/format.h>

namespace vfio_shim {

Result<std::uint32_t> bind_to(const Fd &iommufd, const Fd &cdev) {
  abi::DeviceBindIommufd bind{
      .argsz = sizeof(bind), .flags = 0, .iommufd = iommufd.get(), .out_devid = 0};
  VFIO_SHIM_TRY(run_ioctl(cdev, abi::device_bind_iommufd, &bind, "VFIO_DEVICE_BIND_IOMMUFD"));
  return bind.out_devid;
}

BoundDevice BoundDevice::adopt(topology::Device device, const BackendState::Device &state,
                               FileStore &store, DeviceMemory *memory) {
  BoundDevice adopted(std::move(device));
  adopted.devid_ = state.devid;
  adopted.file_ = KeptFile::adopt(state.file, store);
  adopted.bound_ = adopted.file_ || state.file == 0;
  adopted.attached_ = adopted.bound_ && state.attached;
  if (memory != nullptr && state.inode != 0)
    adopted.bars_ = memory->adopt(state, store);
  return adopted;
}

BackendState::Device BoundDevice::describe() const {
  BackendState::Device state{
      .name = device_.name, .devid = devid_, .attached = attached_, .file = file_.number()};
  if (bars_)
    bars_->describe(state);
  return state;
}

Result<void> BoundDevice::bind(const topology::Device &device, const Fd &iommufd,
                               FileStore &store) {
  auto cdev = topology::open_cdev(device);
  if (!cdev)
    return pass_on(cdev);
  const auto devid = bind_to(iommufd, *cdev);
  if (!devid) {
    // EINVAL: another process has this cdev bound, so it owns the group's DMA. Claiming a group
    // that is owned is EPERM.
    if (devid.error().code == EINVAL)
      return fail(EPERM, fmt::format("device {} is open elsewhere", device.name));
    // EACCES: the kernel wants a token, so that the users of both functions agree.
    if (devid.error().code == EACCES)
      return fail_for_operator(
          EACCES,
          fmt::format("device {} needs a VF token, which vfio-shim cannot give yet: its physical "
                      "function is bound to vfio-pci, or virtual functions of it are in use",
                      device.name));
    return pass_on(devid);
  }
  auto kept = KeptFile::keep(std::move(*cdev), store);
  if (!kept)
    return pass_on(kept);
  device_ = device;
  devid_ = *devid;
  bound_ = true;
  attached_ = false;
  file_ = std::move(*kept);
  return {};
}

bool BoundDevice::still_bound(const Fd &iommufd) {
  if (!bound_ || file_)
    return bound_;
  abi::IommuHwInfo info{.dev_id = devid_};
  const auto asked = run_ioctl(iommufd, abi::iommu_get_hw_info, &info, "IOMMU_GET_HW_INFO");
  // Any other error says nothing about the device: the kernel may be short of memory.
  if (!asked && asked.error().code == ENOENT)
    forget();
  return bound_;
}

void BoundDevice::forget() {
  bound_ = attached_ = false;
  bars_.reset();
}

Result<Fd> BoundDevice::copy_of_file() const {
  Fd copy = file_.file().duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

Result<void> BoundDevice::export_bars(DeviceMemory &memory, FileStore &store) {
  if (bars_)
    return {};
  auto exported = memory.add(file_.file(), store);
  if (!exported)
    return pass_on(exported);
  bars_ = std::move(*exported);
  return {};
}

Result<void> BoundDevice::attach(std::uint32_t page_table) {
  abi::DeviceAttachIommufdPt attach{.argsz = sizeof(attach), .flags = 0, .pt_id = page_table};
  auto attached = run_ioctl(file_.file(), abi::device_attach_iommufd_pt, &attach,
                            "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
  attached_ = attached.has_value();
  return attached;
}

void BoundDevice::detach() {
  abi::DeviceDetachIommufdPt detach{.argsz = sizeof(detach), .flags = 0};
  (void)run_ioctl(file_.file(), abi::device_detach_iommufd_pt, &detach,
                  "VFIO_DEVICE_DETACH_IOMMUFD_PT");
  attached_ = false;
}

} // namespace vfio_shim
