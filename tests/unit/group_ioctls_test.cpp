// SPDX-License-Identifier: MIT
/// @file
/// What a group answers: drivers/vfio/group.c.

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr long viable = VFIO_GROUP_FLAGS_VIABLE;
constexpr long in_container = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;

class GroupTest : public MachineTest {
protected:
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(first_group);
};

TEST_F(GroupTest, DoesNotKnowOtherIoctls) {
  EXPECT_EQ(group.call(VFIO_GET_API_VERSION), fails(ENOTTY));
  EXPECT_EQ(group.call(VFIO_IOMMU_MAP_DMA, nullptr), fails(ENOTTY));
  EXPECT_EQ(group.call(VFIO_DEVICE_RESET), fails(ENOTTY));
  EXPECT_EQ(group.call(0, nullptr), fails(ENOTTY));
}

class GetStatus : public GroupTest {};

TEST_F(GetStatus, SaysThatTheGroupIsViable) {
  EXPECT_EQ(group.status(), answers(viable));
}

TEST_F(GetStatus, SaysThatItIsInAContainer) {
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_EQ(group.status(), answers(in_container));
  ASSERT_EQ(group.unset_container(), succeeds);
  EXPECT_EQ(group.status(), answers(viable));
}

TEST_F(GetStatus, SaysThatTheHostUsesADeviceOfTheGroup) {
  machine.sysfs.add_device("0000:00:02.1", first_group, "nvme");
  EXPECT_EQ(group.status(), answers(0));
}

TEST_F(GetStatus, OverwritesTheFlags) {
  vfio_group_status status{.argsz = sizeof(status), .flags = UINT32_MAX};
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, &status), succeeds);
  EXPECT_EQ(status.argsz, sizeof(status));
  EXPECT_EQ(status.flags, static_cast<std::uint32_t>(viable));

  machine.sysfs.add_device("0000:00:02.1", first_group, "nvme");
  status.flags = UINT32_MAX;
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, &status), succeeds);
  EXPECT_EQ(status.flags, 0U);
}

TEST_F(GetStatus, RefusesAShortStruct) {
  vfio_group_status status{.argsz = 0, .flags = 0};
  for (const std::uint32_t argsz : {0U, 4U, 7U}) {
    status.argsz = argsz;
    EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, &status), fails(EINVAL)) << argsz;
  }
}

TEST_F(GetStatus, TakesALongerStructAndWritesOnlyItsOwn) {
  const Pages pages;
  const vfio_group_status status{.argsz = 4096, .flags = 0};
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, pages.put_at_end(status)), succeeds);
}

TEST_F(GetStatus, RefusesPointersToNothing) {
  const Pages pages;
  const vfio_group_status status{.argsz = sizeof(status), .flags = 0};
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, nullptr), fails(EFAULT));
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, pages.put_at_end(status, 7)), fails(EFAULT));
  std::byte *place = pages.put_at_end(status);
  pages.protect(PROT_READ);
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, place), fails(EFAULT)) << "read-only";
  pages.protect(PROT_NONE);
  EXPECT_EQ(group.call(VFIO_GROUP_GET_STATUS, place), fails(EFAULT));
}

class SetContainer : public GroupTest {};

TEST_F(SetContainer, RefusesPointersToNothing) {
  const Pages pages;
  const int number = container.number();
  EXPECT_EQ(group.call(VFIO_GROUP_SET_CONTAINER, nullptr), fails(EFAULT));
  EXPECT_EQ(group.call(VFIO_GROUP_SET_CONTAINER, pages.put_at_end(number, 3)), fails(EFAULT));
  EXPECT_EQ(group.call(VFIO_GROUP_SET_CONTAINER, pages.put_at_end(number)), succeeds);
}

TEST_F(SetContainer, RefusesANumberThatIsNotOpen) {
  EXPECT_EQ(group.set_container(-1), fails(EBADF));
  EXPECT_EQ(group.set_container(1 << 20), fails(EBADF));
}

TEST_F(SetContainer, RefusesAnotherKindOfFile) {
  const Fd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  EXPECT_EQ(group.set_container(null.get()), fails(EBADFD));
}

TEST_F(SetContainer, RefusesABadNumberEvenInAContainer) {
  ASSERT_EQ(group.set_container(container), succeeds);
  const Fd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  EXPECT_EQ(group.set_container(-1), fails(EBADF)) << "comes before: already in one";
  EXPECT_EQ(group.set_container(null.get()), fails(EINVAL)) << "comes behind it";
}

TEST_F(SetContainer, TakesADuplicateOfTheContainersFile) {
  const Fd duplicate{::dup(container.number())};
  EXPECT_EQ(group.set_container(duplicate.get()), succeeds);
}

TEST_F(SetContainer, LeaksNoDescriptor) {
  const auto open_files = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto before = open_files();
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(group.unset_container(), succeeds);
  ASSERT_EQ(group.set_container(0), fails(EBADFD));
  EXPECT_EQ(open_files(), before);
}

TEST_F(SetContainer, RefusesAGroupWhoseDevicesAreGone) {
  machine.sysfs.remove_cdev(first_device, 0);
  EXPECT_EQ(group.set_container(container), fails(ENODEV));
}

class UnsetContainer : public GroupTest {};

TEST_F(UnsetContainer, RefusesAGroupThatIsInNone) {
  EXPECT_EQ(group.unset_container(), fails(EINVAL));
}

TEST_F(UnsetContainer, LooksAtNoArgument) {
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_EQ(group.call(VFIO_GROUP_UNSET_CONTAINER, UINT64_MAX), succeeds);
}

TEST_F(UnsetContainer, RefusesWhileADeviceIsOpen) {
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(), succeeds);
  {
    const Fd device = group.device(first_device);
    EXPECT_EQ(group.unset_container(), fails(EBUSY));
    EXPECT_EQ(group.status(), answers(in_container));
    EXPECT_TRUE(group.group().device_open());
  }
  machine.close_at_client(first_device);
  EXPECT_FALSE(group.group().device_open());
  EXPECT_EQ(group.unset_container(), succeeds);
}

TEST_F(UnsetContainer, WorksWhileADeviceOfAnotherGroupIsOpen) {
  GroupFile other = program.open_group(second_group);
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(other.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(), succeeds);
  const Fd device = other.device(second_device);
  EXPECT_EQ(group.unset_container(), succeeds);
  EXPECT_EQ(other.unset_container(), fails(EBUSY));
}

/// A group of two devices in a container whose IOMMU is set.
class GetDeviceFd : public MachineTest {
protected:
  void SetUp() override { group.emplace(program.open_group_in(pair_group, container)); }

  ContainerFile container = program.open_container();
  std::optional<GroupFile> group;
};

TEST_F(GetDeviceFd, GivesTheCdevsFile) {
  const Fd device = group->device(pair_device_a);
  ASSERT_TRUE(device);
  struct stat status {};
  ASSERT_EQ(::fstat(device.get(), &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  EXPECT_EQ(::fcntl(device.get(), F_GETFD), FD_CLOEXEC);
}

TEST_F(GetDeviceFd, GivesEveryDeviceOfTheGroup) {
  const Fd one = group->device(pair_device_a);
  const Fd other = group->device(pair_device_b);
  EXPECT_TRUE(one);
  EXPECT_TRUE(other);
}

TEST_F(GetDeviceFd, KnowsNoOtherNames) {
  for (const std::string name : {"", " ", "0000:01:01", "0000:01:01.", "0000:01:01.00", "01:01.0",
                                 " 0000:01:01.0", "0000:01:01.0\t", "0000:01:01.0,", "../vfio0"})
    EXPECT_EQ(group->device_number(name), fails(ENODEV)) << '"' << name << '"';
}

TEST_F(GetDeviceFd, KnowsNoDeviceOfAnotherGroup) {
  EXPECT_EQ(group->device_number(first_device), fails(ENODEV));
}

TEST_F(GetDeviceFd, TakesBlanksBehindTheName) {
  EXPECT_TRUE(group->device(std::string(pair_device_a) + " "));
  EXPECT_TRUE(group->device(std::string(pair_device_b) + "   "));
}

TEST_F(GetDeviceFd, RefusesOptions) {
  const std::string token = "vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
  EXPECT_EQ(group->device_number(std::string(pair_device_a) + " " + token), fails(EINVAL))
      << "it is no virtual function";
  EXPECT_EQ(group->device_number(std::string(pair_device_a) + " vf_token=x"), fails(EINVAL));
  EXPECT_EQ(group->device_number(std::string(pair_device_a) + " fast"), fails(EINVAL));
  EXPECT_EQ(group->device_number(std::string("0000:77:00.0 ") + token), fails(ENODEV));
}

TEST_F(GetDeviceFd, NeedsAContainer) {
  GroupFile outside = program.open_group(first_group);
  EXPECT_EQ(outside.device_number(first_device), fails(EINVAL));
  EXPECT_EQ(outside.device_number("0000:77:00.0"), fails(ENODEV)) << "the name comes first";
  EXPECT_EQ(outside.call(VFIO_GROUP_GET_DEVICE_FD, nullptr), fails(EFAULT));
}

TEST_F(GetDeviceFd, NeedsAnIommu) {
  ContainerFile without = program.open_container();
  GroupFile outside = program.open_group(first_group);
  ASSERT_EQ(outside.set_container(without), succeeds);
  EXPECT_EQ(outside.device_number(first_device), fails(EINVAL));
  ASSERT_EQ(without.set_iommu(), succeeds);
  EXPECT_TRUE(outside.device(first_device));
}

TEST_F(GetDeviceFd, PassesTheBackendsErrnoOn) {
  machine.fail_next("open_device", ENOMEM);
  EXPECT_EQ(group->device_number(pair_device_a), fails(ENOMEM));
  EXPECT_TRUE(group->device(pair_device_a));
}

TEST_F(GetDeviceFd, AnswersEMFILEWithoutOpeningAnything) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const Fd next{::dup(0)};
  // One more descriptor for the backend's own; none for the client's.
  const rlimit tight{.rlim_cur = static_cast<rlim_t>(next.get()) + 2, .rlim_max = before.rlim_max};
  std::optional<Answer> answer;
  {
    // topology::find() needs descriptors to read directories: they are in use only for the moment.
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    answer = group->device_number(pair_device_a);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  }
  EXPECT_EQ(*answer, fails(EMFILE));
  EXPECT_FALSE(group->group().device_open());
  EXPECT_TRUE(group->device(pair_device_a));
}

TEST_F(GetDeviceFd, GivesADeviceThatIsOpenOnceMore) {
  const Fd first = group->device(pair_device_a);
  const Fd second = group->device(pair_device_a);
  ASSERT_TRUE(second);
  EXPECT_NE(first.get(), second.get());
}

TEST_F(GetDeviceFd, GivesADeviceAgainAfterItWasClosed) {
  { const Fd device = group->device(pair_device_a); }
  machine.close_at_client(pair_device_a);
  EXPECT_TRUE(group->device(pair_device_a));
}

TEST_F(GetDeviceFd, GivesADeviceAgainAndAgainWithoutKeepingDescriptors) {
  const auto open_files = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const Fd kept = group->device(pair_device_b);
  const auto before = open_files();
  for (int i = 0; i < 100; ++i) {
    { const Fd device = group->device(pair_device_a); }
    machine.close_at_client(pair_device_a);
  }
  EXPECT_LE(open_files(), before + 2) << "one for each time it was given";
}

TEST_F(GetDeviceFd, FindsADeviceThatIsOpenOnlyAsADuplicate) {
  Fd given = group->device(pair_device_a);
  const Fd duplicate{::dup(given.get())};
  given.reset();
  EXPECT_TRUE(group->device(pair_device_a)) << "type1 opens a device as often as it is asked to";
}

TEST_F(GetDeviceFd, FindsADeviceThatWasPluggedInSince) {
  machine.sysfs.add_device("0000:01:03.0", pair_group, "vfio-pci");
  machine.sysfs.add_cdev("0000:01:03.0", 99);
  EXPECT_TRUE(group->device("0000:01:03.0"));
}

/// The device's name at all the places where reading it could go wrong.
class DeviceName : public GetDeviceFd {
protected:
  Answer device_at(const std::byte *place) {
    const Answer answer = group->call(VFIO_GROUP_GET_DEVICE_FD, place);
    if (answer.ok()) {
      ::close(static_cast<int>(answer.value()));
      machine.close_at_client(name);
    }
    return answer;
  }

  static std::byte *put(std::byte *place, const std::string &name) {
    std::memcpy(place, name.c_str(), name.size() + 1);
    return place;
  }

  const std::string name = pair_device_a;
};

TEST_F(DeviceName, MayEndWithThePage) {
  const Pages pages;
  EXPECT_TRUE(device_at(put(pages.end() - name.size() - 1, name)).ok());
}

TEST_F(DeviceName, MustNotReachIntoNothing) {
  const Pages pages;
  std::memcpy(pages.end() - name.size(), name.data(), name.size()); // Without its NUL.
  EXPECT_EQ(device_at(pages.end() - name.size()), fails(EFAULT));
  EXPECT_EQ(device_at(pages.end()), fails(EFAULT));
  EXPECT_EQ(device_at(nullptr), fails(EFAULT));
}

TEST_F(DeviceName, MustBeReadable) {
  const Pages pages;
  std::byte *place = put(pages.begin(), name);
  pages.protect(PROT_READ);
  EXPECT_TRUE(device_at(place).ok());
  pages.protect(PROT_NONE);
  EXPECT_EQ(device_at(place), fails(EFAULT));
}

TEST_F(DeviceName, MayLieAcrossAPagesBorder) {
  const Pages pages(2);
  for (std::size_t before = 0; before <= name.size() + 1; ++before)
    EXPECT_TRUE(device_at(put(pages.begin() + page_size - before, name)).ok()) << before;
}

TEST_F(DeviceName, MayHaveAPageWithItsNul) {
  const Pages pages(3);
  for (const std::size_t offset : {0, 1, 63, 64, 65, 4095}) {
    std::memset(pages.begin(), ' ', pages.size());
    std::byte *place = pages.begin() + offset;
    std::memcpy(place, name.data(), name.size());
    place[page_size - 1] = std::byte{0};
    EXPECT_TRUE(device_at(place).ok()) << "4095 characters at " << offset;
    place[page_size - 1] = std::byte{' '};
    place[page_size] = std::byte{0};
    EXPECT_EQ(device_at(place), fails(EINVAL)) << "4096 characters at " << offset;
  }
}

TEST_F(DeviceName, IsTooLongEvenIfNothingIsBehindItsPage) {
  const Pages pages;
  std::memset(pages.begin(), 'x', pages.size());
  EXPECT_EQ(device_at(pages.begin()), fails(EINVAL)) << "a whole page was there to be read";
  EXPECT_EQ(device_at(pages.begin() + 1), fails(EFAULT)) << "a byte less, and it was not";
}

RC_GTEST_FIXTURE_PROP(DeviceName, IsReadOfAnyLengthAnywhere, ()) {
  const Pages pages(2);
  const auto length = *rc::gen::inRange<std::size_t>(0, page_size + 2);
  const auto offset = *rc::gen::inRange<std::size_t>(0, pages.size());
  std::memset(pages.begin(), 'x', pages.size());
  std::byte *place = pages.begin() + offset;
  const bool terminated = place + length < pages.end();
  if (terminated)
    place[length] = std::byte{0};
  const std::size_t there = pages.end() - place;
  const int wanted = terminated && length < page_size ? ENODEV
                     : there >= page_size             ? EINVAL
                                                      : EFAULT;
  RC_ASSERT(device_at(place) == fails(wanted));
}

} // namespace
} // namespace vfio_shim::test
