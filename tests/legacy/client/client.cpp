// SPDX-License-Identifier: MIT
#include "client.h"

namespace legacy {
namespace {

Device join(const Container &container, const Group &group, const PciDevice &device,
            IommuType type) {
  group.set_container(container).or_throw("VFIO_GROUP_SET_CONTAINER");
  container.set_iommu(type).or_throw("VFIO_SET_IOMMU");
  return group.device(device.address);
}

} // namespace

Client::Client(const Provider &provider, const PciDevice &device_, IommuType type)
    : container{provider},
      group{provider, device_.group},
      device{join(container, group, device_, type)} {}

} // namespace legacy
