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

Client::Client(const Provider &provider, const PciDevice &device, IommuType type)
    : Client{provider, Group{provider, device.group}, device, type} {}

Client Client::after_a_kill(const Provider &provider, const PciDevice &device) {
  return {provider, Group::open_when_free(provider, device.group), device, IommuType::Type1v2};
}

Client::Client(const Provider &provider, Group opened, const PciDevice &device_, IommuType type)
    : container{provider},
      group{std::move(opened)},
      device{join(container, group, device_, type)} {}

} // namespace legacy
