// SPDX-License-Identifier: MIT
// A program that serves itself: legacy VFIO calls on its own memory, carried out on iommufd. No
// daemon, no /dev/vfio/vfio.
//
//   embedding 0000:00:02.0        a device that is bound to vfio-pci; as root
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vfio_shim/backend_kind.hpp>
#include <vfio_shim/container.hpp>
#include <vfio_shim/group.hpp>
#include <vfio_shim/own_process.hpp>
#include <vfio_shim/topology.hpp>

#include <linux/vfio.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace vfio_shim;

namespace {

constexpr std::uint64_t size = 64 * 1024;
constexpr std::uint64_t iova = 0x100000;

template <typename T>
std::uint64_t argument(T &value) {
  return reinterpret_cast<std::uintptr_t>(&value);
}

/// What a legacy program gets from ioctl(), or an exception.
long answer(const char *call, const Result<long> &result) {
  if (!result)
    throw std::runtime_error(std::string(call) + ": " + result.error().describe());
  return *result;
}

GroupId group_of(const std::string &device) {
  for (const topology::Group &group : topology::scan())
    if (std::ranges::find(group.devices, device, &topology::Device::name) != group.devices.end())
      return group.id;
  throw std::runtime_error(device + " is bound to no vfio driver");
}

void map_and_unmap(const std::string &device) {
  const Pid self{::getpid()};
  const auto container = std::make_shared<Container>(
      ContainerOptions{.make_backend = backend_factory(BackendKind::iommufd)}, FileNumber{1}, self);
  // A legacy program names its container by a descriptor. Which one that is, the embedding program
  // decides.
  const Fd file{::memfd_create("container", MFD_CLOEXEC)};
  OwnProcess client([&container](const Fd &) { return container; });
  Group group(group_of(device), {}, nullptr, FileNumber{2}, self);

  int number = file.get();
  answer("SET_CONTAINER", group.call(client, VFIO_GROUP_SET_CONTAINER, argument(number)));
  answer("SET_IOMMU", container->call(client, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));

  void *memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw std::runtime_error("mmap");
  vfio_iommu_type1_dma_map map{};
  map.argsz = sizeof(map);
  map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  map.vaddr = reinterpret_cast<std::uintptr_t>(memory);
  map.iova = iova;
  map.size = size;
  answer("MAP_DMA", container->call(client, VFIO_IOMMU_MAP_DMA, argument(map)));

  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  unmap.iova = iova;
  unmap.size = size;
  answer("UNMAP_DMA", container->call(client, VFIO_IOMMU_UNMAP_DMA, argument(unmap)));
  std::printf("mapped and unmapped %llu bytes for %s\n",
              static_cast<unsigned long long>(unmap.size), device.c_str());
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: embedding DEVICE\n");
    return 2;
  }
  try {
    map_and_unmap(argv[1]);
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "embedding: %s\n", error.what());
    return 1;
  }
}
