// SPDX-License-Identifier: MIT
// A driver on its way from the legacy VFIO API to iommufd: half of its memory is mapped the old
// way, half the new way, through the same descriptor. It runs on vfio-shim with --express, and on a
// kernel whose /dev/vfio/vfio is iommufd's (CONFIG_IOMMUFD_VFIO_CONTAINER).
//
//   half_and_half GROUP PCI-ADDRESS      for example: half_and_half 5 0000:00:06.0

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace {

// Two of iommufd's own calls, as in linux/iommufd.h, which a distribution's headers may not have
// yet.
struct VfioIoas {
  std::uint32_t size = sizeof(VfioIoas);
  std::uint32_t ioas_id = 0;
  std::uint16_t op = 0; // IOMMU_VFIO_IOAS_GET
  std::uint16_t reserved = 0;
};
struct IoasMap {
  std::uint32_t size = sizeof(IoasMap);
  std::uint32_t flags = 1 | 2 | 4; // fixed IOVA, writable, readable
  std::uint32_t ioas_id = 0;
  std::uint32_t reserved = 0;
  std::uint64_t user_va = 0;
  std::uint64_t length = 0;
  std::uint64_t iova = 0;
};
constexpr unsigned long iommu_ioas_map = _IO(';', 0x85);
constexpr unsigned long iommu_vfio_ioas = _IO(';', 0x88);

constexpr std::uint64_t half = 1 << 20;
constexpr std::uint64_t old_iova = 0x100000;
constexpr std::uint64_t new_iova = old_iova + half;

int check(int result, const char *what) {
  if (result < 0) {
    std::perror(what);
    std::exit(1);
  }
  return result;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: half_and_half GROUP PCI-ADDRESS\n");
    return 2;
  }
  // As ever: a container, a group in it, an IOMMU.
  int container = check(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
  const int group = check(open((std::string("/dev/vfio/") + argv[1]).c_str(), O_RDWR), "the group");
  check(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "VFIO_GROUP_SET_CONTAINER");
  check(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
  check(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]), "VFIO_GROUP_GET_DEVICE_FD");

  auto *memory = static_cast<char *>(
      mmap(nullptr, 2 * half, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 1;
  }

  // The old way.
  vfio_iommu_type1_dma_map map{};
  map.argsz = sizeof(map);
  map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  map.vaddr = reinterpret_cast<std::uintptr_t>(memory);
  map.iova = old_iova;
  map.size = half;
  check(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "VFIO_IOMMU_MAP_DMA");

  // The new way: the container is an iommufd, and its address space has a number there.
  VfioIoas ioas;
  check(ioctl(container, iommu_vfio_ioas, &ioas),
        "IOMMU_VFIO_IOAS (is this container an iommufd?)");
  IoasMap native;
  native.ioas_id = ioas.ioas_id;
  native.user_va = reinterpret_cast<std::uintptr_t>(memory) + half;
  native.length = half;
  native.iova = new_iova;
  check(ioctl(container, iommu_ioas_map, &native), "IOMMU_IOAS_MAP");

  // Both are in the same address space: the old call takes them away together.
  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  unmap.iova = old_iova;
  unmap.size = 2 * half;
  check(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap), "VFIO_IOMMU_UNMAP_DMA");
  std::printf("unmapped %llu KiB, half of it mapped the old way and half the new way\n",
              static_cast<unsigned long long>(unmap.size) >> 10);
  return unmap.size == 2 * half ? 0 : 1;
}
