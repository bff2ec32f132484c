// SPDX-License-Identifier: MIT
#pragma once

#include "client/fd.h"

#include <cstdint>

#include <fcntl.h>
#include <linux/kvm.h>

namespace legacy {

/// A virtual machine without processors, and its VFIO device.
class Machine {
public:
  Machine() {
    vm_ = Fd{static_cast<int>(kvm_.ioctl(KVM_CREATE_VM).or_throw("KVM_CREATE_VM"))};
    kvm_create_device create{.type = KVM_DEV_TYPE_VFIO, .fd = 0, .flags = 0};
    vm_.ioctl(KVM_CREATE_DEVICE, &create).or_throw("KVM_CREATE_DEVICE");
    device_ = Fd{static_cast<int>(create.fd)};
  }

  Answer add(int file) const { return set(KVM_DEV_VFIO_GROUP_ADD, file); }
  Answer remove(int file) const { return set(KVM_DEV_VFIO_GROUP_DEL, file); }
  Answer set(std::uint64_t what, std::int32_t file) const {
    const kvm_device_attr attribute{.flags = 0,
                                    .group = KVM_DEV_VFIO_GROUP,
                                    .attr = what,
                                    .addr = reinterpret_cast<std::uintptr_t>(&file)};
    return device_.ioctl(KVM_SET_DEVICE_ATTR, &attribute);
  }
  const Fd &device() const { return device_; }

private:
  Fd kvm_ = Fd::open("/dev/kvm", O_RDWR);
  Fd vm_;
  Fd device_;
};

} // namespace legacy
