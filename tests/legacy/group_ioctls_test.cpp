// SPDX-License-Identifier: MIT
// One group: its status, its container, its device fds, and who may open it.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr long viable = VFIO_GROUP_FLAGS_VIABLE;
constexpr long in_a_container = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;

class GroupSuite : public LegacySuite {
protected:
  const PciDevice device_ = topology::lone_edus(1)[0];
  Group group_{provider(), device_.group};
  Container container_{provider()};

  /// Brings the group to where device fds can be had.
  void join() {
    ASSERT_EQ(group_.set_container(container_), succeeds);
    ASSERT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
  }
};

LEGACY_SUITE(GroupIoctls, GroupSuite);

Answer ask_status(const Group &group, const EdgeBuffer &buffer, std::uint32_t argsz) {
  buffer.put(vfio_group_status{argsz, ~0u});
  return group.fd().ioctl(VFIO_GROUP_GET_STATUS, buffer.data());
}

TEST_P(GroupIoctls, StatusFollowsTheContainer) {
  EXPECT_EQ(group_.status(), answers(viable));
  ASSERT_EQ(group_.set_container(container_), succeeds);
  EXPECT_EQ(group_.status(), answers(in_a_container));
  ASSERT_EQ(group_.unset_container(), succeeds);
  EXPECT_EQ(group_.status(), answers(viable));
}

TEST_P(GroupIoctls, StatusChecksItsArgument) {
  const EdgeBuffer buffer{Bytes{sizeof(vfio_group_status)}};
  for (const std::uint32_t too_short : {0u, 4u, 7u})
    EXPECT_EQ(ask_status(group_, buffer, too_short), fails(EINVAL)) << too_short;
  for (const std::uint32_t enough : {8u, 9u, 4096u}) {
    EXPECT_EQ(ask_status(group_, buffer, enough), succeeds) << enough;
    EXPECT_EQ(buffer.get<vfio_group_status>().argsz, enough) << "argsz stays";
    EXPECT_EQ(buffer.get<vfio_group_status>().flags, unsigned{viable});
  }
}

TEST_P(GroupIoctls, StatusToABadPointerIsAFault) {
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_GET_STATUS), fails(EFAULT));
  EXPECT_EQ(ask_status(group_, EdgeBuffer{7_B}, 8), fails(EFAULT));
  const EdgeBuffer read_only{8_B};
  read_only.put(vfio_group_status{8, 0});
  read_only.make_read_only();
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_GET_STATUS, read_only.data()), fails(EFAULT));
}

TEST_P(GroupIoctls, UnknownCallsAreNotSupported) {
  for (const unsigned long request :
       {static_cast<unsigned long>(_IO(VFIO_TYPE, VFIO_BASE + 27)),
        static_cast<unsigned long>(_IO('x', 1)), static_cast<unsigned long>(VFIO_GET_API_VERSION),
        static_cast<unsigned long>(VFIO_CHECK_EXTENSION),
        static_cast<unsigned long>(VFIO_SET_IOMMU), static_cast<unsigned long>(VFIO_DEVICE_RESET)})
    EXPECT_EQ(group_.fd().ioctl(request), fails(ENOTTY)) << "request 0x" << std::hex << request;
}

TEST_P(GroupIoctls, ReadAndWriteAreRefused) {
  char byte = 0;
  EXPECT_EQ(Answer::of(::read(group_.fd().number(), &byte, 1)), fails(EINVAL));
  EXPECT_EQ(Answer::of(::write(group_.fd().number(), &byte, 1)), fails(EINVAL));
}

TEST_P(GroupIoctls, OpensOnce) {
  EXPECT_EQ(Group::try_open(provider(), device_.group), fails(EBUSY));
  run_in_child([&] { EXPECT_EQ(Group::try_open(provider(), device_.group), fails(EBUSY)); });
  group_.close();
  EXPECT_EQ(Group::try_open(provider(), device_.group), succeeds);
}

TEST_P(GroupIoctls, ADuplicateKeepsItOpen) {
  Fd duplicate{::dup(group_.fd().number())};
  group_.close();
  EXPECT_EQ(Group::try_open(provider(), device_.group), fails(EBUSY));
  duplicate.close();
  EXPECT_EQ(Group::try_open(provider(), device_.group), succeeds);
}

TEST_P(GroupIoctls, SetContainerNeedsAnOpenFd) {
  for (const int number :
       {-1, 1 << 20, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()})
    EXPECT_EQ(group_.set_container(number), fails(EBADF)) << number;
  Fd closed = Fd::open("/dev/null", O_RDWR);
  const int number = closed.number();
  closed.close();
  EXPECT_EQ(group_.set_container(number), fails(EBADF));
  const Fd path_only = Fd::open(provider().container, O_PATH);
  EXPECT_EQ(group_.set_container(path_only.number()), fails(EBADF));
}

TEST_P(GroupIoctls, SetContainerNeedsAContainer) {
  EXPECT_EQ(group_.set_container(Fd::open("/dev/null", O_RDWR).number()), fails(EBADFD));
  EXPECT_EQ(group_.set_container(make_memfd(page).number()), fails(EBADFD));
  EXPECT_EQ(group_.set_container(group_.fd().number()), fails(EBADFD)) << "the group itself";
  EXPECT_EQ(group_.status(), answers(viable));
}

TEST_P(GroupIoctls, SetContainerToABadPointerIsAFault) {
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_SET_CONTAINER), fails(EFAULT));
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_SET_CONTAINER, EdgeBuffer{3_B}.data()), fails(EFAULT));
}

TEST_P(GroupIoctls, SetContainerReadsOnlyAnInt) {
  const EdgeBuffer buffer{4_B};
  buffer.put(container_.fd().number());
  buffer.make_read_only();
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_SET_CONTAINER, buffer.data()), succeeds);
}

TEST_P(GroupIoctls, JoinsOneContainer) {
  ASSERT_EQ(group_.set_container(container_), succeeds);
  EXPECT_EQ(group_.set_container(container_), fails(EINVAL));
  EXPECT_EQ(group_.set_container(Container{provider()}), fails(EINVAL));
  EXPECT_EQ(group_.set_container(Fd::open("/dev/null", O_RDWR).number()), fails(EINVAL));
  EXPECT_EQ(group_.set_container(-1), fails(EBADF)) << "the fd is looked at first";
}

TEST_P(GroupIoctls, AnyDescriptorOfTheContainerWillDo) {
  const Fd duplicate{::fcntl(container_.fd().number(), F_DUPFD_CLOEXEC, 500)};
  ASSERT_EQ(group_.set_container(duplicate.number()), succeeds);
  EXPECT_EQ(container_.set_iommu(IommuType::Type1v2), succeeds);
}

TEST_P(GroupIoctls, LeavesAndJoinsAgain) {
  EXPECT_EQ(group_.unset_container(), fails(EINVAL)) << "it is in none";
  ASSERT_EQ(group_.set_container(container_), succeeds);
  EXPECT_EQ(group_.unset_container(), succeeds);
  EXPECT_EQ(group_.unset_container(), fails(EINVAL)) << "it has left";
  const Container other{provider()};
  EXPECT_EQ(group_.set_container(other), succeeds);
  EXPECT_EQ(other.set_iommu(IommuType::Type1v2), succeeds);
}

TEST_P(GroupIoctls, CannotLeaveWhileADeviceIsOpen) {
  join();
  Device device = group_.device(device_.address);
  EXPECT_EQ(group_.unset_container(), expected(Behaviour::UnsetContainerWithADevice, fails(EBUSY)));
  device.close();
  EXPECT_EQ(group_.unset_container(), expected(Behaviour::UnsetContainerAfterADevice, succeeds));
}

TEST_P(GroupIoctls, DeviceFdNeedsAContainer) {
  EXPECT_EQ(group_.try_device(device_.address), fails(EINVAL));
}

TEST_P(GroupIoctls, DeviceFdNeedsAnIommuType) {
  ASSERT_EQ(group_.set_container(container_), succeeds);
  EXPECT_EQ(group_.try_device(device_.address),
            expected(Behaviour::DeviceFdWithoutAType, fails(EINVAL)));
}

TEST_P(GroupIoctls, DeviceFdNeedsADeviceOfTheGroup) {
  const std::string other_group = topology::lone_edus(2)[1].address;
  const std::vector<std::string> wrong{"",
                                       "nonsense",
                                       "0000:ff:1f.7",
                                       "00:02.0",
                                       other_group,
                                       device_.address + "x",
                                       device_.address.substr(0, device_.address.size() - 1)};
  for (const std::string &name : wrong)
    EXPECT_EQ(group_.try_device(name), fails(ENODEV)) << "before a container: '" << name << "'";
  join();
  for (const std::string &name : wrong)
    EXPECT_EQ(group_.try_device(name), fails(ENODEV)) << "'" << name << "'";
}

TEST_P(GroupIoctls, DeviceFdTakesOptionsAfterTheName) {
  join();
  EXPECT_EQ(group_.try_device(device_.address + " "), succeeds);
  EXPECT_EQ(group_.try_device(device_.address + "   "), succeeds);
  EXPECT_EQ(group_.try_device(device_.address + " colour=red"), fails(EINVAL));
  EXPECT_EQ(group_.try_device(device_.address + " vf_token=1"), fails(EINVAL));
}

TEST_P(GroupIoctls, DeviceFdWithABadNamePointerIsAFault) {
  join();
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_GET_DEVICE_FD), fails(EFAULT));
  const EdgeBuffer unterminated{Bytes{device_.address.size()}};
  std::memcpy(unterminated.data(), device_.address.data(), device_.address.size());
  EXPECT_EQ(group_.fd().ioctl(VFIO_GROUP_GET_DEVICE_FD, unterminated.data()), fails(EFAULT));
}

TEST_P(GroupIoctls, DeviceFdWithANameAtTheEndOfMemory) {
  join();
  const EdgeBuffer name{Bytes{device_.address.size() + 1}};
  std::memcpy(name.data(), device_.address.c_str(), device_.address.size() + 1);
  const Answer answer = group_.fd().ioctl(VFIO_GROUP_GET_DEVICE_FD, name.data());
  ASSERT_TRUE(answer.ok()) << answer;
  const Fd closing{static_cast<int>(answer.value())};
}

TEST_P(GroupIoctls, DeviceFdWithAnEndlessNameIsInvalid) {
  join();
  EXPECT_EQ(group_.try_device(std::string(8192, 'x')), fails(EINVAL));
}

TEST_P(GroupIoctls, DeviceFdCanBeHadTwice) {
  join();
  const Device first = group_.device(device_.address);
  const Device second = group_.device(device_.address);
  EXPECT_EQ(first.config16(0), second.config16(0));
  EXPECT_EQ(Edu{second}.id(), Edu{first}.id());
}

TEST_P(GroupIoctls, DeviceFdIsClosedOnExec) {
  join();
  const Device device = group_.device(device_.address);
  EXPECT_EQ(::fcntl(device.fd().number(), F_GETFD), FD_CLOEXEC);
}

TEST_P(GroupIoctls, DeviceFdIsTheLowestFreeNumber) {
  join();
  Fd probe{::dup(0)};
  const int lowest_free = probe.number();
  probe.close();
  const int number = group_.device(device_.address).fd().number();
  EXPECT_EQ(number == lowest_free, !differs(Behaviour::DeviceFdIsTheLowestFreeNumber)) << number;
}

TEST_P(GroupIoctls, DeviceFdWithoutADescriptorLeftIsRefused) {
  join();
  run_in_child([&] {
    Fd probe{::dup(0)};
    const rlimit none_left{static_cast<rlim_t>(probe.number()),
                           static_cast<rlim_t>(probe.number())};
    probe.close();
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none_left), 0);
    EXPECT_EQ(group_.try_device(device_.address), fails(EMFILE));
  });
  EXPECT_EQ(group_.try_device(device_.address), succeeds) << "afterwards, with descriptors left";
}

TEST_P(GroupIoctls, NoDescriptorsAreLeftBehind) {
  const auto open_now = [] {
    const std::filesystem::directory_iterator all{"/proc/self/fd"};
    return std::distance(begin(all), end(all));
  };
  join();
  // The shim leaves one descriptor in a client when it first maps for it.
  const Memory first{page};
  ASSERT_EQ(container_.map(some_iova, first), succeeds);
  ASSERT_EQ(container_.unmap_all(), unmaps(page));
  const auto before = open_now();
  for (int i = 0; i < 3; ++i) {
    const Memory memory{page};
    EXPECT_EQ(group_.try_device(device_.address), succeeds);
    EXPECT_EQ(group_.try_device("nonsense"), fails(ENODEV));
    EXPECT_EQ(container_.map(some_iova, memory), succeeds);
    EXPECT_EQ(container_.unmap_all(), unmaps(page));
  }
  EXPECT_EQ(open_now(), before);
}

} // namespace
