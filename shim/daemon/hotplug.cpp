// SPDX-License-Identifier: MIT
#include "daemon/hotplug.hpp"

namespace vfio_shim::daemon {

Result<HotplugMonitor> HotplugMonitor::create() {
  HotplugMonitor hotplug;
  hotplug.context_.reset(udev_new());
  if (hotplug.context_)
    hotplug.monitor_.reset(udev_monitor_new_from_netlink(hotplug.context_.get(), "kernel"));
  if (!hotplug.monitor_ ||
      udev_monitor_filter_add_match_subsystem_devtype(hotplug.monitor_.get(), "vfio-dev", nullptr) <
          0 ||
      udev_monitor_enable_receiving(hotplug.monitor_.get()) < 0)
    return fail(ENODEV, "listening to the kernel's device announcements (netlink)");
  return hotplug;
}

void HotplugMonitor::drain() {
  while (udev_device *device = udev_monitor_receive_device(monitor_.get()))
    udev_device_unref(device);
}

} // namespace vfio_shim::daemon
