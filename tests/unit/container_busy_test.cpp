// SPDX-License-Identifier: MIT
/// @file
/// A call takes its time: what others want of the container waits for its end, and they do not.

#include <functional>
#include <future>

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr Bytes page{0x1000};
constexpr Iova some_iova{0x1000};

/// A client whose memory and descriptors can be waited for. It can do nothing else.
class SlowClient final : public Client {
public:
  std::function<void()> while_reading;
  std::function<void()> while_handing_over;

  std::string describe() const override { return "slow"; }
  Pid pid() const override { return Pid{1}; }
  Result<Fd> process() override { return fail(ENOSYS, "process"); }
  Result<void> read(ClientAddr from, std::span<std::byte> to) override {
    if (while_reading)
      while_reading();
    std::memcpy(to.data(), reinterpret_cast<const void *>(from.value), to.size());
    return {};
  }
  Result<void> write(ClientAddr /*to*/, std::span<const std::byte> /*from*/) override { return {}; }
  Result<void> ioctl_in_client(const Fd & /*file*/, Lending /*lending*/, unsigned long /*command*/,
                               std::span<const std::byte> /*argument*/) override {
    return fail(ENOSYS, "ioctl_in_client");
  }
  Result<std::vector<MemoryPart>> memory_parts(ClientAddr /*start*/, Bytes /*size*/,
                                               Access /*access*/) override {
    return fail(ENOSYS, "memory_parts");
  }
  Result<Fd> copy_of(ClientFd /*number*/) override { return fail(ENOSYS, "copy_of"); }
  Result<std::shared_ptr<Container>> container_behind(const Fd & /*file*/) override {
    return nullptr;
  }
  Result<ClientFd> hand_over(const Fd & /*file*/) override {
    while_handing_over();
    return fail(EMFILE, "hand_over");
  }
};

/// A container with two groups, the first of which has its device open.
class Busy : public ContainerTest {
protected:
  void SetUp() override {
    ContainerTest::SetUp();
    ASSERT_EQ(second.set_container(container), succeeds);
    device = group->device(first_device);
  }

  /// Has another thread do something while a call on the container is being served.
  void while_busy(const std::function<void()> &meanwhile) {
    machine.while_mapping = [&] { std::async(std::launch::async, meanwhile).get(); };
    EXPECT_EQ(container.map(some_iova, some_memory, page), succeeds);
    machine.while_mapping = nullptr;
  }

  GroupFile second = program.open_group(second_group);
  Fd device;
};

TEST_F(Busy, AGroupLeavesAtTheCallsEnd) {
  while_busy([&] {
    EXPECT_EQ(second.group().try_leave_when_unused(), Departure::busy);
    EXPECT_TRUE(machine.claimed(second_group));
  });
  EXPECT_FALSE(machine.claimed(second_group)) << "the call let it go";
  EXPECT_EQ(second.group().try_leave_when_unused(), Departure::left);
  EXPECT_EQ(machine.mapped().size(), 1U);
}

TEST_F(Busy, AGroupWithADeviceWaitsForThatAsWell) {
  while_busy([&] { EXPECT_EQ(group->group().try_leave_when_unused(), Departure::busy); });
  EXPECT_EQ(group->group().try_leave_when_unused(), Departure::device_open);
  machine.close_at_client(first_device);
  EXPECT_EQ(group->group().try_leave_when_unused(), Departure::left);
  EXPECT_FALSE(machine.claimed(first_group));
}

TEST_F(Busy, AGroupThatIsToCloseDoesNotMindItsDevice) {
  while_busy([&] { EXPECT_EQ(group->group().try_close(), Departure::busy); });
  EXPECT_FALSE(machine.claimed(first_group));
  EXPECT_EQ(group->group().try_close(), Departure::left);
}

TEST_F(Busy, TheLastGroupTakesAlongWhatTheCallHasMapped) {
  while_busy([&] {
    EXPECT_EQ(group->group().try_close(), Departure::busy);
    EXPECT_EQ(second.group().try_leave_when_unused(), Departure::busy);
  });
  EXPECT_EQ(machine.backends_alive(), 0U);
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EINVAL)) << "no IOMMU any more";
}

TEST_F(Busy, DevicesThatComeOrGoAreHeardOfAtTheCallsEnd) {
  GroupFile pair = program.open_group(pair_group);
  ASSERT_EQ(pair.set_container(container), succeeds);
  machine.sysfs.remove_cdev(pair_device_a, 2);
  while_busy([&] {
    machine.log.clear();
    EXPECT_TRUE(pair.group().try_follow_topology());
    EXPECT_TRUE(machine.log.empty());
  });
  ASSERT_FALSE(machine.log.empty());
  EXPECT_EQ(machine.log.back(), "follow 6: 1 device(s)");
}

TEST_F(Busy, ReadingAnArgumentKeepsNobodyFromLeaving) {
  SlowClient client;
  client.while_reading = [&] {
    EXPECT_EQ(std::async(std::launch::async, [&] { return second.group().try_leave_when_unused(); })
                  .get(),
              Departure::left);
  };
  const auto request = map_request(some_iova, some_memory, page);
  EXPECT_TRUE(container.container().call(client, VFIO_IOMMU_MAP_DMA, address_of(&request).value));
}

TEST_F(Busy, AnArgumentThatIsReadTooLateIsForNothing) {
  machine.close_at_client(first_device);
  ASSERT_EQ(second.unset_container(), succeeds);
  SlowClient client;
  client.while_reading = [&] {
    std::async(std::launch::async, [&] { return group->group().try_close(); }).get();
  };
  const auto request = map_request(some_iova, some_memory, page);
  const auto mapped =
      container.container().call(client, VFIO_IOMMU_MAP_DMA, address_of(&request).value);
  ASSERT_FALSE(mapped);
  EXPECT_EQ(mapped.error().code, EINVAL) << "the last group has left meanwhile";
}

TEST_F(Busy, AGroupThatHandsADeviceOverIsBusyItself) {
  SlowClient client;
  client.while_handing_over = [&] {
    std::async(std::launch::async, [&] {
      EXPECT_EQ(second.group().try_leave_when_unused(), Departure::busy);
      EXPECT_EQ(second.group().try_close(), Departure::busy);
      EXPECT_FALSE(second.group().try_follow_topology());
    }).get();
  };
  std::string name(second_device);
  name.resize(256); // It is read in pieces, and may end in any of them.
  const auto answer =
      second.group().call(client, VFIO_GROUP_GET_DEVICE_FD, address_of(name.c_str()).value);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, EMFILE);
  EXPECT_EQ(second.group().try_close(), Departure::left);
}

class Replugged : public ContainerTest {};

TEST_F(Replugged, AGroupOfTheSameNumberTakesThePlaceOfTheOneBefore) {
  GroupFile again = program.open_group(first_group);
  ASSERT_EQ(again.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(), succeeds) << "the one before was the last, and took it along";
  ASSERT_EQ(container.map(some_iova, some_memory, page), succeeds);
  EXPECT_EQ(group->group().try_leave_when_unused(), Departure::left);
  EXPECT_EQ(group->group().try_close(), Departure::left);
  group->close();
  EXPECT_TRUE(machine.claimed(first_group)) << "it is the later one's now";
  EXPECT_EQ(container.unmap_all(), answers(page.value));
}

TEST_F(Replugged, AGroupThatWasUnpluggedJoinsNoMore) {
  ASSERT_EQ(group->group().try_close(), Departure::left);
  EXPECT_EQ(group->set_container(container), fails(ENODEV));
  GroupFile again = program.open_group(first_group);
  EXPECT_EQ(again.set_container(container), succeeds);
}

} // namespace
} // namespace vfio_shim::test
