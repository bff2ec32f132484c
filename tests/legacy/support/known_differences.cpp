// SPDX-License-Identifier: MIT
#include "known_differences.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>

#include <linux/seccomp.h>
#include <sys/prctl.h>

namespace legacy {
namespace {

using namespace providers;

// A behaviour that is more than one answer: its tests say what happens instead.
constexpr std::nullopt_t see_tests = std::nullopt;

// What holds for every CUSE node, whatever is behind it.
constexpr std::string_view cuse_polls =
    "the kernel gives every CUSE node a poll operation, which is all that epoll asks for";
constexpr std::string_view cuse_seeks =
    "to the kernel, a CUSE node's position never moves; type1's nodes have none";
constexpr std::string_view cuse_reads =
    "the kernel looks at the buffer and the flags before CUSE asks whose node it is";

constexpr std::array differences{
    // --- kernel-compat: an iommufd context plays the container.
    Difference{Behaviour::CacheCoherencyWithoutAGroup, kernel_compat, fails(ENODEV),
               "asks the address space, which there is none of before the first group"},
    Difference{Behaviour::UpdateVaddrExtension, kernel_compat, answers(0),
               "VFIO_UPDATE_VADDR is left out for good"},
    Difference{Behaviour::SetIommuWithoutAGroup, kernel_compat, fails(ENODEV),
               "the address space comes into being with the first group"},
    Difference{Behaviour::SetIommuTwice, kernel_compat, succeeds,
               "the type is not remembered, so every time is the first"},
    Difference{Behaviour::SetIommuOfUnknownType, kernel_compat, fails(EINVAL),
               "there are no IOMMU drivers to look through"},
    Difference{Behaviour::UnknownIoctlWithoutAType, kernel_compat, fails(ENOTTY),
               "calls are told apart without regard to the container's state"},
    Difference{Behaviour::NullArgumentWithoutAType, kernel_compat, fails(EFAULT),
               "the argument is read before the container's state is looked at"},
    Difference{Behaviour::MapWithoutAGroup, kernel_compat, fails(ENODEV),
               "there is no address space before the first group"},
    Difference{Behaviour::MapWithoutAType, kernel_compat, succeeds,
               "the address space is there from the first group on"},
    Difference{Behaviour::MmapOfTheContainer, kernel_compat, fails(ENXIO),
               "an iommufd can be mapped in general, only not at this offset"},
    Difference{Behaviour::InfoKeepsALargerArgsz, kernel_compat, see_tests,
               "argsz always becomes the size of the chain"},
    Difference{Behaviour::MigrationCapability, kernel_compat, see_tests,
               "has no dirty tracking, and so does not announce it"},
    Difference{Behaviour::MappingLimit, kernel_compat, succeeds,
               "memory limits the mappings; dma_avail is 2^32 - 1 always"},
    Difference{
        Behaviour::InfoBeforeTheDeviceFd, kernel_compat, see_tests,
        "a device is attached when its fd is made, and what it cannot do is not known before"},
    Difference{Behaviour::DeviceFdWithoutAType, kernel_compat, succeeds,
               "the address space is there from the first group on"},
    Difference{Behaviour::UnsetContainerWithADevice, kernel_compat, succeeds,
               "devices hold the iommufd themselves"},
    Difference{Behaviour::UnsetContainerAfterADevice, kernel_compat, fails(EINVAL),
               "the group has left already, see UnsetContainerWithADevice"},
    Difference{Behaviour::OpenWhileADeviceIsOpen, kernel_compat, succeeds,
               "devices do not hold the group's file"},
    Difference{Behaviour::ContainerOutlivesItsGroups, kernel_compat, see_tests,
               "the address space and its mappings live as long as the iommufd"},
    Difference{Behaviour::MapOfUnreadableMemory, kernel_compat, succeeds,
               "pages are pinned the fast way, which knows no write-only memory on x86"},
    Difference{Behaviour::VaddrUpToTheTop, kernel_compat, fails(EOVERFLOW),
               "the end of the range is computed, not its last byte"},
    Difference{Behaviour::MisalignedAndOverflowing, kernel_compat, fails(EINVAL),
               "alignment is checked before overflow"},
    Difference{Behaviour::MisalignedVaddrOnAnOverlap, kernel_compat, fails(EEXIST),
               "overlap is checked before the alignment of vaddr"},
    Difference{Behaviour::LockedMemoryPerUser, kernel_compat, succeeds,
               "opened as /dev/iommu, pinned memory is accounted to the user, not to the process"},
    Difference{Behaviour::UnmapCuttingAMapping, kernel_compat, fails(ENOENT),
               "no mapping lies within the range"},
    Difference{Behaviour::RefusedUnmapTakesWhatComesBeforeTheCut, kernel_compat, see_tests,
               "mappings are removed one by one until one does not fit"},
    Difference{Behaviour::MisalignedUnmap, kernel_compat, fails(ENOENT),
               "alignment is not looked at: no mapping lies within the range"},
    Difference{Behaviour::MisalignedUnmapOfNothing, kernel_compat, succeeds,
               "alignment is not looked at, and there is nothing to unmap"},
    Difference{Behaviour::RefusedUnmapWritesBack, kernel_compat, see_tests,
               "the argument is written back before the error is returned"},
    Difference{Behaviour::UnmapsAtTheSameTime, kernel_compat, fails(EBUSY),
               "programs are expected not to; whether it shows is a matter of timing"},
    Difference{Behaviour::V1CutsMappings, kernel_compat, see_tests,
               "a TYPE1 container uses small pages only, so that mappings can be cut anywhere"},

    Difference{Behaviour::DirtyTracking, kernel_compat, fails(ENOTTY),
               "left to iommufd's own interface"},
    Difference{Behaviour::UpdateVaddr, kernel_compat, fails(EINVAL),
               "VFIO_UPDATE_VADDR is left out for good, so its flags are unknown"},
    Difference{Behaviour::PeerToPeer, kernel_compat, fails(EFAULT),
               "memory is mapped that has pages to pin; BARs have none"},

    // --- shim: type1's behaviour is the goal; each line here needs a reason why it cannot be had.
    Difference{Behaviour::BarMappingOutlivesDecoding, shim, see_tests,
               "the kernel takes a dma-buf away, for good, when its device stops decoding; type1 "
               "leaves the IOMMU pointing where a BAR used to be"},
    Difference{Behaviour::TracedClientMaps, shim, fails(EBUSY),
               "the client's own thread must make the first map, and it has a tracer already"},
    Difference{Behaviour::HotReset, shim, fails(EINVAL),
               "the kernel takes no files but its own; `vfio-shim run` steps in",
               When::unsupervised},
    Difference{Behaviour::KvmGroups, shim, fails(EINVAL),
               "KVM takes no files but the kernel's own; `vfio-shim run` steps in",
               When::unsupervised},
    Difference{Behaviour::DeviceFdIsTheLowestFreeNumber, shim, see_tests,
               "a supervisor knows devices by their high numbers, and looks at no others",
               When::supervised},

    Difference{Behaviour::StaleDirtyBits, shim, see_tests,
               "type1 moves a mapping's bitmap in place to report it, and does not clear what went "
               "beyond its end: the next report has dirty bits for pages that are not mapped"},
    Difference{Behaviour::NodesInEpoll, shim, succeeds, cuse_polls},
    Difference{Behaviour::SeekingInANode, shim, answers(0), cuse_seeks},
    Difference{Behaviour::ReadsAndWritesOfAnyKind, shim, see_tests, cuse_reads},

    // --- shim on the kernel's own container.
    Difference{Behaviour::TracedClientMaps, shim_type1, fails(EBUSY),
               "all memory is pinned by the client's own thread, which has a tracer already"},
    Difference{Behaviour::MapWithoutADescriptor, shim_type1, fails(EMFILE),
               "the client's own thread makes the call, on a descriptor that is put there"},
    Difference{Behaviour::HotReset, shim_type1, fails(EINVAL),
               "the kernel takes no files but its own", When::unsupervised},
    Difference{Behaviour::KvmGroups, shim_type1, fails(EINVAL),
               "KVM takes no files but the kernel's own", When::unsupervised},
    Difference{Behaviour::NodesInEpoll, shim_type1, succeeds, cuse_polls},
    Difference{Behaviour::SeekingInANode, shim_type1, answers(0), cuse_seeks},
    Difference{Behaviour::ReadsAndWritesOfAnyKind, shim_type1, see_tests, cuse_reads},

    // --- shim on kernel-compat: the shim's rules, and what kernel-compat makes of a mapping.
    Difference{Behaviour::DirtyTracking, shim_kernel_compat, fails(ENOTTY),
               "left to iommufd's own interface"},
    Difference{Behaviour::PeerToPeer, shim_kernel_compat, fails(EFAULT),
               "memory is mapped that has pages to pin; BARs have none"},
    Difference{Behaviour::MapOfUnreadableMemory, shim_kernel_compat, succeeds,
               "pages are pinned the fast way, which knows no write-only memory on x86"},
    Difference{Behaviour::LockedMemoryPerUser, shim_kernel_compat, succeeds,
               "opened as /dev/iommu, pinned memory is accounted to the user, not to the process"},
    Difference{Behaviour::NodesInEpoll, shim_kernel_compat, succeeds, cuse_polls},
    Difference{Behaviour::SeekingInANode, shim_kernel_compat, answers(0), cuse_seeks},
    Difference{Behaviour::ReadsAndWritesOfAnyKind, shim_kernel_compat, see_tests, cuse_reads},
    Difference{Behaviour::TracedClientMaps, shim_kernel_compat, fails(EBUSY),
               "all memory is pinned by the client's own thread, which has a tracer already"},
    Difference{Behaviour::MapWithoutADescriptor, shim_kernel_compat, fails(EMFILE),
               "the client's own thread makes the call, on a descriptor that is put there"},
    Difference{Behaviour::HotReset, shim_kernel_compat, fails(EINVAL),
               "the kernel takes no files but its own", When::unsupervised},
    Difference{Behaviour::KvmGroups, shim_kernel_compat, fails(EINVAL),
               "KVM takes no files but the kernel's own", When::unsupervised},

    // --- shim, with clients that map by themselves: from VFIO_SET_IOMMU on it is kernel-compat
    // that
    // answers them.
    Difference{Behaviour::UpdateVaddrExtension, shim_express, answers(0),
               "VFIO_UPDATE_VADDR is left out for good"},
    Difference{Behaviour::SetIommuTwice, shim_express, succeeds,
               "the type is not remembered, so every time is the first"},
    Difference{Behaviour::InfoKeepsALargerArgsz, shim_express, see_tests,
               "argsz always becomes the size of the chain"},
    Difference{Behaviour::MigrationCapability, shim_express, see_tests,
               "has no dirty tracking, and so does not announce it"},
    Difference{Behaviour::MappingLimit, shim_express, succeeds,
               "memory limits the mappings; dma_avail is 2^32 - 1 always"},
    Difference{Behaviour::InfoBeforeTheDeviceFd, shim_express, see_tests,
               "the daemon learns too late that the last device was closed to attach it again"},
    Difference{Behaviour::CallsAfterTheLastGroup, shim_express, fails(ENODEV),
               "the address space has gone, and the kernel has no name for what is left"},
    Difference{Behaviour::LastDeviceTakesItsGroupOutAtOnce, shim_express, see_tests,
               "no call tells the daemon to look whether the device is closed"},
    Difference{Behaviour::MapOfUnreadableMemory, shim_express, succeeds,
               "pages are pinned the fast way, which knows no write-only memory on x86"},
    Difference{Behaviour::VaddrUpToTheTop, shim_express, fails(EOVERFLOW),
               "the end of the range is computed, not its last byte"},
    Difference{Behaviour::MisalignedAndOverflowing, shim_express, fails(EINVAL),
               "alignment is checked before overflow"},
    Difference{Behaviour::MisalignedVaddrOnAnOverlap, shim_express, fails(EEXIST),
               "overlap is checked before the alignment of vaddr"},
    Difference{Behaviour::UnmapCuttingAMapping, shim_express, fails(ENOENT),
               "no mapping lies within the range"},
    Difference{Behaviour::RefusedUnmapTakesWhatComesBeforeTheCut, shim_express, see_tests,
               "mappings are removed one by one until one does not fit"},
    Difference{Behaviour::MisalignedUnmap, shim_express, fails(ENOENT),
               "alignment is not looked at: no mapping lies within the range"},
    Difference{Behaviour::MisalignedUnmapOfNothing, shim_express, succeeds,
               "alignment is not looked at, and there is nothing to unmap"},
    Difference{Behaviour::RefusedUnmapWritesBack, shim_express, see_tests,
               "the argument is written back before the error is returned"},
    Difference{Behaviour::UnmapsAtTheSameTime, shim_express, fails(EBUSY),
               "programs are expected not to; whether it shows is a matter of timing"},
    Difference{Behaviour::V1CutsMappings, shim_express, see_tests,
               "a TYPE1 container uses small pages only, so that mappings can be cut anywhere"},
    Difference{Behaviour::DirtyTracking, shim_express, fails(ENOTTY),
               "left to iommufd's own interface; `vfio-shim run` puts the container back"},
    Difference{Behaviour::UpdateVaddr, shim_express, fails(EINVAL),
               "VFIO_UPDATE_VADDR is left out for good, so its flags are unknown"},
    Difference{Behaviour::PeerToPeer, shim_express, fails(EFAULT),
               "memory is mapped that has pages to pin; BARs have none"},
    Difference{Behaviour::HotReset, shim_express, fails(EINVAL),
               "the kernel takes no files but its own; `vfio-shim run` steps in",
               When::unsupervised},
    Difference{Behaviour::KvmGroups, shim_express, fails(EINVAL),
               "KVM takes no files but the kernel's own; `vfio-shim run` steps in",
               When::unsupervised},
    Difference{Behaviour::NodesInEpoll, shim_express, succeeds, cuse_polls},
    Difference{Behaviour::SeekingInANode, shim_express, answers(0), cuse_seeks},
    Difference{Behaviour::ReadsAndWritesOfAnyKind, shim_express, see_tests, cuse_reads},
};

/// Whether a supervisor has this process's calls trapped. (Nobody else filters them here.)
bool is_supervised() {
  return ::prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER;
}

bool applies(When when) {
  return when == When::always || (when == When::supervised) == is_supervised();
}

} // namespace

std::string_view to_string(Behaviour behaviour) {
  switch (behaviour) {
#define LEGACY_BEHAVIOUR(name)                                                                     \
  case Behaviour::name:                                                                            \
    return #name;
#include "behaviours.def"
#undef LEGACY_BEHAVIOUR
  }
  return "?";
}

std::span<const Difference> known_differences() {
  return differences;
}

const Difference *find_difference(const Provider &provider, Behaviour behaviour) {
  const auto found = std::find_if(differences.begin(), differences.end(), [&](const Difference &d) {
    return d.behaviour == behaviour && d.provider == provider.name && applies(d.when);
  });
  return found != differences.end() ? &*found : nullptr;
}

Answer expected(const Provider &provider, Behaviour behaviour, Answer type1s) {
  const Difference *difference = find_difference(provider, behaviour);
  if (difference == nullptr)
    return type1s;
  if (!difference->instead)
    throw std::logic_error{std::string{to_string(behaviour)} + " is not a single answer"};
  return *difference->instead;
}

bool differs(const Provider &provider, Behaviour behaviour) {
  return find_difference(provider, behaviour) != nullptr;
}

} // namespace legacy
