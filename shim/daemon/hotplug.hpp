// SPDX-License-Identifier: MIT
/// @file
/// Being told of devices that are bound to and unbound from vfio drivers.
#pragma once

#include "vfio_shim/result.hpp"

#include <memory>

#include <libudev.h>

namespace vfio_shim::daemon {

/// The kernel's own announcements about VFIO cdevs: they come with or without a udev daemon.
class HotplugMonitor {
public:
  static Result<HotplugMonitor> create();

  /// Becomes readable when something was announced.
  int fd() const { return udev_monitor_get_fd(monitor_.get()); }
  /// Takes all announcements.
  void drain();

private:
  struct Release {
    void operator()(udev *context) const { udev_unref(context); }
    void operator()(udev_monitor *monitor) const { udev_monitor_unref(monitor); }
  };

  std::unique_ptr<udev, Release> context_;
  std::unique_ptr<udev_monitor, Release> monitor_;
};

} // namespace vfio_shim::daemon
