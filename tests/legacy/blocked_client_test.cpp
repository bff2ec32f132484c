// SPDX-License-Identifier: MIT
// A client makes a call of its own wait for ever. Whoever has nothing to do with it goes on.

#include <cerrno>
#include <chrono>
#include <thread>

#include <unistd.h>

#include "child.h"
#include "daemon.h"
#include "patience.h"
#include "stuck_call.h"
#include "suite.h"
#include "unbinding.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

LEGACY_SUITE(BlockedClient, LegacySuite);

/// The kernel's own container waits with its locks held where it writes an answer
/// (vfio_compat.c) or pins memory (type1): closing its groups then waits too, and not even SIGKILL
/// ends that. So it is asked only what it can answer. With --express it is the kernel that answers.
std::vector<StuckIn> places_to_get_stuck_in(const Provider &provider) {
  if (!provider.is_shim() || provider.name == providers::shim_express)
    return {StuckIn::Argument};
  return {StuckIn::Argument, StuckIn::Answer, StuckIn::Memory};
}

/// Another process with the client's container, in the midst of a call that does not end. It has
/// neither the client's group nor its device open.
class StuckProcess {
public:
  /// @param calls How many quick ones it makes just before.
  StuckProcess(Client &client, StuckIn where, int calls = 0)
      : child_{[&, calls] {
          client.device.close();
          client.group.close();
          get_stuck(
              client.container, where, [&] { stuck_.announce(); }, calls);
        }} {
    if (!stuck_.await())
      throw std::runtime_error{"the call does not get stuck"};
  }

  void end() {
    child_.kill_now();
    EXPECT_FALSE(child_.wait());
  }

private:
  const Signpost stuck_;
  Child child_;
};

/// Tries to open the group in `count` threads at once. Each is told yes or EBUSY.
void open_many_times(const Provider &provider, GroupId group, int count) {
  std::vector<std::jthread> threads;
  for (int n = 0; n < count; ++n)
    threads.emplace_back([&] {
      const Answer answer = Group::try_open(provider, group);
      EXPECT_TRUE(answer == succeeds || answer == fails(EBUSY)) << answer;
    });
}

TEST_P(BlockedClient, ItsGroupIsOpenedManyTimesByFewThreads) {
  constexpr int opens = 40;
  const PciDevice edu = topology::lone_edus(1)[0];
  for (const StuckIn where : places_to_get_stuck_in(provider())) {
    SCOPED_TRACE(where);
    Client client{provider(), edu};
    StuckProcess stuck{client, where};
    client.device.close();
    client.group.close();
    const pid_t daemon = provider().is_shim() ? daemon_of(provider()) : ::getpid();
    const std::size_t before = threads_of(daemon);
    Child openers{[&] { open_many_times(provider(), edu.group, opens); }};
    std::this_thread::sleep_for(500ms);
    // Some are needed for a moment, where the group is free and is opened again and again.
    EXPECT_LE(threads_of(daemon), before + opens / 2) << "threads are taken";
    EXPECT_TRUE(openers.wait(5s)) << "an open() is never answered";
    stuck.end();
    EXPECT_TRUE(within(1s, [&] { return Group::try_open(provider(), edu.group) == succeeds; }));
    client.container.close();
    expect_a_client_works(provider(), edu);
  }
}

/// The daemon may serve such a client by a thread that looks for its next call by itself.
TEST_P(BlockedClient, OthersAreServedWhenItGotStuckAfterManyQuickCalls) {
  constexpr int many = 2000;
  const PciDevice edu = topology::lone_edus(1)[0];
  for (const StuckIn where : places_to_get_stuck_in(provider())) {
    SCOPED_TRACE(where);
    Client client{provider(), edu};
    StuckProcess stuck{client, where, many};
    Child other{[&] { EXPECT_EQ(Container{provider()}.api_version(), succeeds); }};
    EXPECT_TRUE(other.wait(5s));
    stuck.end();
  }
}

TEST_P(BlockedClient, OthersMemoryIsLetGoWhenTheyEnd) {
  const auto edus = topology::lone_edus(2);
  const HugePageReserve reserve{2};
  for (const StuckIn where : places_to_get_stuck_in(provider())) {
    SCOPED_TRACE(where);
    Client client{provider(), edus[0]};
    StuckProcess stuck{client, where};
    client.group.close(); // It waits for its device from now on.
    std::this_thread::sleep_for(100ms);
    const auto free_pages = HugePageReserve::free_pages();
    Child other{[&] {
      const Client unlucky{provider(), edus[1]};
      const Memory memory = Memory::allocate(MemoryKind::HugetlbAnonymous, huge_page);
      EXPECT_EQ(unlucky.container.map(some_iova, memory), succeeds);
      EXPECT_EQ(HugePageReserve::free_pages(), free_pages - 1);
      ::_exit(HasFailure() ? 1 : 0); // The kernel closes the group before the device.
    }};
    EXPECT_TRUE(other.wait());
    EXPECT_TRUE(within(2s, [&] { return HugePageReserve::free_pages() == free_pages; }))
        << "what it mapped stays pinned";
    expect_a_client_works(provider(), edus[1]);
    stuck.end();
  }
}

TEST_P(BlockedClient, OthersDevicesAreUnboundAndBound) {
  const auto edus = topology::lone_edus(2);
  for (const StuckIn where : places_to_get_stuck_in(provider())) {
    SCOPED_TRACE(where);
    Client client{provider(), edus[0]};
    StuckProcess stuck{client, where};
    client.group.close();
    {
      const Container container{provider()};
      const Group group{provider(), edus[1].group};
      ASSERT_EQ(group.set_container(container), succeeds);
      ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
      const Unbinding unbinding{edus[1]};
      EXPECT_TRUE(unbinding.ends_within(5s));
      if (HasFailure())
        stuck.end(); // Or nobody would ever get on.
      EXPECT_TRUE(disappears(provider(), edus[1]));
    }
    EXPECT_TRUE(appears(provider(), edus[1]));
    expect_a_client_works(provider(), edus[1]);
    stuck.end();
  }
}

TEST_P(BlockedClient, ItsDeviceIsPluggedInAgain) {
  const PciDevice edu = topology::lone_edus(1)[0];
  // In the midst of a map the container cannot let its own device go: the kernel's could not
  // either.
  for (const StuckIn where : {StuckIn::Argument}) {
    SCOPED_TRACE(where);
    Client client{provider(), edu};
    StuckProcess stuck{client, where};
    client.device.close();
    if (!provider().is_shim())
      client.group.close(); // The kernel's node stays as long as it is open.
    {
      const Unbinding unbinding{edu};
      ASSERT_TRUE(unbinding.ends_within(5s));
      ASSERT_TRUE(disappears(provider(), edu));
    }
    ASSERT_TRUE(appears(provider(), edu));
    expect_a_client_works(provider(), edu);

    const Group again{provider(), edu.group};
    stuck.end();
    ASSERT_EQ(again.set_container(client.container), succeeds);
    ASSERT_EQ(client.container.set_iommu(IommuType::Type1v2), succeeds);
    client.group.close();
    std::this_thread::sleep_for(100ms);
    const Device device = again.device(edu.address);
    expect_dma_works(client.container, Edu{device});
  }
}

} // namespace
