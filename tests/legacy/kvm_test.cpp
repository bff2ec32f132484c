// Groups that are made known to KVM, which wants to know whose DMA it must reckon with.

#include <cerrno>

#include <fcntl.h>
#include <linux/kvm.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

/// A virtual machine without processors, and its VFIO device.
class Machine {
public:
  Machine() {
    vm_ = Fd{static_cast<int>(kvm_.ioctl(KVM_CREATE_VM).or_throw("KVM_CREATE_VM"))};
    kvm_create_device create{.type = KVM_DEV_TYPE_VFIO, .fd = 0, .flags = 0};
    vm_.ioctl(KVM_CREATE_DEVICE, &create).or_throw("KVM_CREATE_DEVICE");
    device_ = Fd{static_cast<int>(create.fd)};
  }

  Answer add(int file) const { return set(KVM_DEV_VFIO_GROUP_ADD, file); }
  Answer remove(int file) const { return set(KVM_DEV_VFIO_GROUP_DEL, file); }
  Answer set(std::uint64_t what, std::int32_t file) const {
    const kvm_device_attr attribute{.flags = 0,
                                    .group = KVM_DEV_VFIO_GROUP,
                                    .attr = what,
                                    .addr = reinterpret_cast<std::uintptr_t>(&file)};
    return device_.ioctl(KVM_SET_DEVICE_ATTR, &attribute);
  }
  const Fd &device() const { return device_; }

private:
  Fd kvm_ = Fd::open("/dev/kvm", O_RDWR);
  Fd vm_;
  Fd device_;
};

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

TEST_P(Kvm, AMachineBelongsToItsProcess) {
  run_in_child([&] { EXPECT_EQ(machine_.add(group()), fails(EIO)); });
}

} // namespace
