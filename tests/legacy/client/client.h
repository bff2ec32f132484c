// SPDX-License-Identifier: MIT
#pragma once

#include "container.h"
#include "device.h"
#include "group.h"
#include "provider.h"
#include "topology.h"

namespace legacy {

/// A container with one device in it, set up in the order in which most programs do it. Closes
/// device, group and container, in that order.
struct Client {
  /// Throws std::system_error naming the step that failed.
  Client(const Provider &provider, const PciDevice &device, IommuType type = IommuType::Type1v2);

  Container container;
  Group group;
  Device device;
};

} // namespace legacy
