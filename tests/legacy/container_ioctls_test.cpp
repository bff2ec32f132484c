// SPDX-License-Identifier: MIT
// The container before and around VFIO_SET_IOMMU: version, extensions, choice of the IOMMU type,
// and what it answers to calls that it does not know.

#include <cerrno>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "suite.h"

namespace {

using namespace legacy;

// Numbers beyond what linux/vfio.h knows, and below what iommufd uses on the same fd.
constexpr unsigned long unknown_vfio_ioctl = _IO(VFIO_TYPE, VFIO_BASE + 27);
constexpr unsigned long unknown_ioctl = _IO('x', 1);

LEGACY_SUITE(ContainerIoctls, LegacySuite);

/// A container with one edu's group in it, but no IOMMU type yet.
struct ContainerWithGroup {
  explicit ContainerWithGroup(const Provider &provider)
      : container{provider}, group{provider, topology::lone_edus(1)[0].group} {
    group.set_container(container).or_throw("VFIO_GROUP_SET_CONTAINER");
  }

  Container container;
  Group group;
};

TEST_P(ContainerIoctls, ApiVersionIsZero) {
  EXPECT_EQ(Container{provider()}.api_version(), answers(VFIO_API_VERSION));
}

TEST_P(ContainerIoctls, ExtensionsOfAnEmptyContainer) {
  const Container container{provider()};
  for (const unsigned long there : {VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_UNMAP_ALL})
    EXPECT_EQ(container.check_extension(there), answers(1)) << "extension " << there;
  for (const unsigned long absent :
       {0ul, 2ul, 5ul, 6ul, 7ul, 8ul, 10ul, 11ul, 12ul, 1000ul, ~0ul, 1ul << 32 | 1})
    EXPECT_EQ(container.check_extension(absent), answers(0)) << "extension " << absent;
  EXPECT_EQ(container.check_extension(VFIO_DMA_CC_IOMMU),
            expected(Behaviour::CacheCoherencyWithoutAGroup, answers(0)));
}

TEST_P(ContainerIoctls, ExtensionsOnceTheTypeIsSet) {
  const ContainerWithGroup joined{provider()};
  ASSERT_EQ(joined.container.set_iommu(IommuType::Type1v2), succeeds);
  for (const unsigned long there : {VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_UNMAP_ALL})
    EXPECT_EQ(joined.container.check_extension(there), answers(1)) << "extension " << there;
  for (const unsigned long absent : {0ul, 2ul, 5ul, 6ul, 7ul, 8ul, 11ul, 12ul, 1000ul, ~0ul})
    EXPECT_EQ(joined.container.check_extension(absent), answers(0)) << "extension " << absent;
  EXPECT_EQ(joined.container.check_extension(VFIO_UPDATE_VADDR),
            expected(Behaviour::UpdateVaddrExtension, answers(1)));
}

TEST_P(ContainerIoctls, SettingTheTypeNeedsAGroup) {
  const Container container{provider()};
  EXPECT_EQ(container.set_iommu(IommuType::Type1),
            expected(Behaviour::SetIommuWithoutAGroup, fails(EINVAL)));
  EXPECT_EQ(container.set_iommu(IommuType::Type1v2),
            expected(Behaviour::SetIommuWithoutAGroup, fails(EINVAL)));
  EXPECT_EQ(container.set_iommu(1000), fails(EINVAL));
}

TEST_P(ContainerIoctls, EitherTypeCanBeSet) {
  for (const IommuType type : {IommuType::Type1, IommuType::Type1v2}) {
    const ContainerWithGroup joined{provider()};
    EXPECT_EQ(joined.container.set_iommu(type), succeeds);
  }
}

TEST_P(ContainerIoctls, TheTypeIsSetOnce) {
  const ContainerWithGroup joined{provider()};
  ASSERT_EQ(joined.container.set_iommu(IommuType::Type1v2), succeeds);
  EXPECT_EQ(joined.container.set_iommu(IommuType::Type1v2),
            expected(Behaviour::SetIommuTwice, fails(EINVAL)));
  EXPECT_EQ(joined.container.set_iommu(IommuType::Type1),
            expected(Behaviour::SetIommuTwice, fails(EINVAL)));
  EXPECT_EQ(joined.container.set_iommu(1000), fails(EINVAL));
}

TEST_P(ContainerIoctls, UnknownTypesAreNoDevice) {
  const ContainerWithGroup joined{provider()};
  for (const unsigned long unknown : {0ul, 2ul, 4ul, 5ul, 6ul, 7ul, 8ul, 10ul, 11ul, 1000ul, ~0ul})
    EXPECT_EQ(joined.container.set_iommu(unknown),
              expected(Behaviour::SetIommuOfUnknownType, fails(ENODEV)))
        << "type " << unknown;
  EXPECT_EQ(joined.container.set_iommu(IommuType::Type1v2), succeeds) << "after the wrong ones";
}

TEST_P(ContainerIoctls, AnExtensionThatIsNoTypeIsInvalid) {
  const ContainerWithGroup joined{provider()};
  EXPECT_EQ(joined.container.set_iommu(VFIO_UNMAP_ALL), fails(EINVAL));
}

TEST_P(ContainerIoctls, WithoutATypeEverythingElseIsInvalid) {
  const Container container{provider()};
  for (const unsigned long request :
       {unknown_vfio_ioctl, unknown_ioctl, static_cast<unsigned long>(VFIO_GROUP_GET_STATUS),
        static_cast<unsigned long>(VFIO_DEVICE_RESET), static_cast<unsigned long>(TCGETS)})
    EXPECT_EQ(container.fd().ioctl(request),
              expected(Behaviour::UnknownIoctlWithoutAType, fails(EINVAL)))
        << "request 0x" << std::hex << request;
}

TEST_P(ContainerIoctls, WithoutATypeArgumentsAreNotLookedAt) {
  const Container container{provider()};
  for (const unsigned long request :
       {VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA})
    EXPECT_EQ(container.fd().ioctl(request),
              expected(Behaviour::NullArgumentWithoutAType, fails(EINVAL)))
        << "request 0x" << std::hex << request;
}

TEST_P(ContainerIoctls, WithoutATypeNothingIsMapped) {
  const Memory memory{page};
  const Container empty{provider()};
  EXPECT_EQ(empty.map(some_iova, memory), expected(Behaviour::MapWithoutAGroup, fails(EINVAL)));
  EXPECT_EQ(empty.unmap(some_iova, page), expected(Behaviour::MapWithoutAGroup, fails(EINVAL)));

  const ContainerWithGroup joined{provider()};
  EXPECT_EQ(joined.container.map(some_iova, memory),
            expected(Behaviour::MapWithoutAType, fails(EINVAL)));
}

TEST_P(ContainerIoctls, WithATypeUnknownCallsAreNotSupported) {
  const ContainerWithGroup joined{provider()};
  ASSERT_EQ(joined.container.set_iommu(IommuType::Type1v2), succeeds);
  for (const unsigned long request :
       {unknown_vfio_ioctl, unknown_ioctl, static_cast<unsigned long>(VFIO_GROUP_GET_STATUS),
        static_cast<unsigned long>(VFIO_GROUP_SET_CONTAINER),
        static_cast<unsigned long>(VFIO_DEVICE_RESET), static_cast<unsigned long>(TCGETS)})
    EXPECT_EQ(joined.container.fd().ioctl(request), fails(ENOTTY))
        << "request 0x" << std::hex << request;
}

TEST_P(ContainerIoctls, ReadWriteAndMmapAreRefused) {
  const Container container{provider()};
  char byte = 0;
  EXPECT_EQ(Answer::of(::read(container.fd().number(), &byte, 1)), fails(EINVAL));
  EXPECT_EQ(Answer::of(::write(container.fd().number(), &byte, 1)), fails(EINVAL));
  void *mapped = ::mmap(nullptr, page.count, PROT_READ, MAP_SHARED, container.fd().number(), 0);
  EXPECT_EQ(Answer::of(mapped == MAP_FAILED ? -1 : 0),
            expected(Behaviour::MmapOfTheContainer, fails(ENODEV)));
}

TEST_P(ContainerIoctls, ContainersAreIndependent) {
  const ContainerWithGroup joined{provider()};
  ASSERT_EQ(joined.container.set_iommu(IommuType::Type1v2), succeeds);
  const Container other{provider()};
  EXPECT_EQ(other.set_iommu(IommuType::Type1v2),
            expected(Behaviour::SetIommuWithoutAGroup, fails(EINVAL)));
}

} // namespace
