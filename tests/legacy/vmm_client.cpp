// SPDX-License-Identifier: MIT
// A virtual machine monitor in small: makes the calls of rust-vmm's vfio-ioctls, which
// cloud-hypervisor is made of, in their order, on the paths that it has built in. As there, a
// registration with KVM that fails is the end. Takes an edu's address. Exit status 0: it had its
// device, used it, and gave it back, twice.

#include "client/container.h"
#include "client/device.h"
#include "client/edu.h"
#include "client/memory.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>

#include <linux/vfio.h>

#include "support/machine.h"

namespace {

using namespace legacy;
namespace fs = std::filesystem;

/// Throws, naming `step`, unless it is so.
void require(bool holds, const char *step) {
  if (!holds)
    throw std::runtime_error(step);
}

/// VfioContainer::new()
Container new_container() {
  Container container{Fd::open("/dev/vfio/vfio", O_RDWR)};
  require(container.api_version() == answers(VFIO_API_VERSION), "VFIO_GET_API_VERSION");
  require(container.check_extension(VFIO_TYPE1v2_IOMMU) == answers(1), "VFIO_CHECK_EXTENSION");
  return container;
}

/// VfioGroup::new()
Fd new_group(const std::string &number) {
  Fd group = Fd::open("/dev/vfio/" + number, O_RDWR);
  vfio_group_status status{.argsz = sizeof(status), .flags = 0};
  group.ioctl(VFIO_GROUP_GET_STATUS, &status).or_throw("VFIO_GROUP_GET_STATUS");
  require((status.flags & VFIO_GROUP_FLAGS_VIABLE) != 0, "the group is viable");
  return group;
}

/// VfioContainer::get_group(), for its first group.
Fd get_group(const Container &container, const Machine &machine, const std::string &number) {
  Fd group = new_group(number);
  const int file = container.fd().number();
  group.ioctl(VFIO_GROUP_SET_CONTAINER, &file).or_throw("VFIO_GROUP_SET_CONTAINER");
  container.set_iommu(IommuType::Type1v2).or_throw("VFIO_SET_IOMMU");
  machine.add(group.number()).or_throw("KVM_DEV_VFIO_GROUP_ADD");
  return group;
}

/// VfioDevice::new()
Device new_device(const Fd &group, const std::string &address) {
  Device device{Fd{static_cast<int>(group.ioctl(VFIO_GROUP_GET_DEVICE_FD, address.c_str())
                                        .or_throw("VFIO_GROUP_GET_DEVICE_FD"))}};
  const vfio_device_info info = device.info();
  require((info.flags & VFIO_DEVICE_FLAGS_PCI) != 0, "a PCI device");
  for (std::uint32_t region = 0; region < VFIO_PCI_CONFIG_REGION_INDEX + 1; ++region)
    device.region(region);
  for (std::uint32_t irq = 0; irq <= VFIO_PCI_MSIX_IRQ_INDEX; ++irq)
    device.irq(irq);
  return device;
}

/// Whether the device copies what it is told to, in the guest's memory.
void use(const Edu &device, const Memory &guest, Iova guests) {
  constexpr Bytes size = Edu::largest_transfer;
  guest.fill({0}, size, 7);
  device.fetch(guests, size);
  device.store(guests + size, size);
  require(std::memcmp(guest.data(), guest.at(size), size.count) == 0, "DMA");
}

/// The order in which VfioDevice is dropped, and the container's put_group().
void give_back(Device device, const Fd &group, const Machine &machine) {
  device.close();
  machine.remove(group.number()).or_throw("KVM_DEV_VFIO_GROUP_DEL");
  group.ioctl(VFIO_GROUP_UNSET_CONTAINER).or_throw("VFIO_GROUP_UNSET_CONTAINER");
}

void run_guest(const std::string &address) {
  const std::string number =
      fs::read_symlink("/sys/bus/pci/devices/" + address + "/iommu_group").filename();
  const Machine machine;
  for (int round = 0; round < 2; ++round) {
    const Container container = new_container();
    const Fd group = get_group(container, machine, number);
    Device device = new_device(group, address);
    const Memory guest{2_MiB};
    constexpr Iova guests{0x100000};
    container.map(guests, guest).or_throw("VFIO_IOMMU_MAP_DMA");
    use(Edu{device}, guest, guests);
    require(container.unmap(guests, guest.size()) == unmaps(guest.size()), "VFIO_IOMMU_UNMAP_DMA");
    give_back(std::move(device), group, machine);
  }
}

} // namespace

int main(int argc, char **argv) {
  try {
    require(argc == 2, "usage: vmm_client ADDRESS");
    run_guest(argv[1]);
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "vmm_client: %s\n", error.what());
    return 1;
  }
}
