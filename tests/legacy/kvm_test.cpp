// SPDX-License-Identifier: MIT
// Groups that are made known to KVM, which wants to know whose DMA it must reckon with.

#include <cerrno>
#include <filesystem>
#include <set>

#include <sys/resource.h>

#include "child.h"
#include "machine.h"
#include "suite.h"

namespace {

using namespace legacy;

class KvmSuite : public AttachedSuite {
protected:
  int group() { return client().group.fd().number(); }

  const Machine machine_;
};

LEGACY_SUITE(KvmOffer, KvmSuite);
LEGACY_SUITE_OF_THOSE_WITH(Behaviour::KvmGroups, Kvm, KvmSuite);

TEST_P(KvmOffer, AGroupCanBeAdded) {
  EXPECT_EQ(machine_.add(group()), expected(Behaviour::KvmGroups, succeeds));
}

TEST_P(Kvm, AGroupIsAddedAndRemovedOnce) {
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(machine_.remove(group()), fails(ENOENT));
    EXPECT_EQ(machine_.add(group()), succeeds);
    EXPECT_EQ(machine_.add(group()), fails(EEXIST));
    EXPECT_EQ(machine_.remove(group()), succeeds);
  }
}

TEST_P(Kvm, OtherFilesAreRefused) {
  EXPECT_EQ(machine_.add(-1), fails(EBADF));
  EXPECT_EQ(machine_.add(machine_.device().number()), fails(EINVAL));
  EXPECT_EQ(machine_.add(container().fd().number()), fails(EINVAL));
  EXPECT_EQ(machine_.set(99, group()), fails(ENXIO));
  EXPECT_EQ(machine_.device().ioctl(KVM_SET_DEVICE_ATTR), fails(EFAULT));
}

TEST_P(Kvm, AGroupWithSeveralDevices) {
  const PciDevice device = topology::edus_sharing_a_group()[0];
  const Client pair{provider(), device};
  EXPECT_EQ(machine_.add(pair.group.fd().number()), succeeds);
  EXPECT_EQ(machine_.add(pair.group.fd().number()), fails(EEXIST));
  EXPECT_EQ(machine_.remove(pair.group.fd().number()), succeeds);
  EXPECT_EQ(machine_.add(pair.group.fd().number()), succeeds);
}

TEST_P(Kvm, TheDeviceComesAndGoesMeanwhile) {
  ASSERT_EQ(machine_.add(group()), succeeds);
  client().device.close();
  ASSERT_EQ(client().group.unset_container(), succeeds) << "the device is closed";
  ASSERT_EQ(client().group.set_container(container()), succeeds);
  ASSERT_EQ(container().set_iommu(IommuType::Type1v2), succeeds);
  const Device again = client().group.device(topology::lone_edus(1)[0].address);
  expect_dma_works(container(), Edu{again});
  EXPECT_EQ(machine_.remove(group()), succeeds);
}

TEST_P(Kvm, TheNextMachineStartsOver) {
  ASSERT_EQ(machine_.add(group()), succeeds);
  const Machine next;
  EXPECT_EQ(next.add(group()), succeeds);
  EXPECT_EQ(next.add(group()), fails(EEXIST));
}

/// The numbers of this process's descriptors.
std::set<std::string> descriptors() {
  std::set<std::string> numbers;
  for (const auto &entry : std::filesystem::directory_iterator{"/proc/self/fd"})
    numbers.insert(entry.path().filename());
  return numbers;
}

TEST_P(Kvm, NothingIsLeftInTheProcess) {
  const auto before = descriptors();
  EXPECT_EQ(machine_.add(group()), succeeds);
  EXPECT_EQ(machine_.add(group()), fails(EEXIST));
  EXPECT_EQ(machine_.remove(group()), succeeds);
  EXPECT_EQ(machine_.remove(group()), fails(ENOENT));
  EXPECT_EQ(descriptors(), before);
  run_in_child([&] {
    const auto childs = descriptors();
    EXPECT_EQ(machine_.add(group()), fails(EIO));
    EXPECT_EQ(descriptors(), childs);
  });
}

TEST_P(Kvm, AProcessWithoutMemoryIsLeftAsItWas) {
  run_in_child([&] {
    const Machine machine;
    const auto before = descriptors();
    constexpr rlimit none{.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
    constexpr rlimit all{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &none), 0);
    const Answer answer = machine.add(group());
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &all), 0);
    EXPECT_TRUE(answer == succeeds || answer == fails(ENOMEM)) << answer;
    EXPECT_EQ(descriptors(), before);
  });
}

TEST_P(Kvm, AMachineBelongsToItsProcess) {
  run_in_child([&] { EXPECT_EQ(machine_.add(group()), fails(EIO)); });
}

} // namespace
