// SPDX-License-Identifier: MIT
// SIGKILL of a client at any moment: everything it had is free again at once.

#include <chrono>
#include <random>
#include <thread>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

LEGACY_SUITE(KilledClient, LegacySuite);

/// Moments to kill at, evenly spread over the time from now to `latest`.
class Moments {
public:
  explicit Moments(std::chrono::microseconds latest)
      : spread_{0, static_cast<int>(latest.count())} {}

  std::chrono::microseconds next() { return std::chrono::microseconds{spread_(random_)}; }

private:
  std::minstd_rand random_{std::random_device{}()};
  std::uniform_int_distribution<int> spread_;
};

/// Sets up, maps and unmaps all kinds of memory for ever.
void work_until_killed(const Provider &provider, const PciDevice &device) {
  const Client client{provider, device};
  const Memory small{page}, large{4_MiB};
  const Memory shared = Memory::allocate(MemoryKind::MemfdShared, 1_MiB);
  for (;;) {
    EXPECT_EQ(client.container.map(some_iova, small), succeeds);
    EXPECT_EQ(client.container.map(some_iova + 16_MiB, large), succeeds);
    EXPECT_EQ(client.container.map(some_iova + 32_MiB, shared), succeeds);
    EXPECT_EQ(client.group.try_device(device.address), succeeds);
    EXPECT_EQ(client.container.unmap(some_iova, page), unmaps(page));
    EXPECT_EQ(client.container.unmap_all(), unmaps(large.size() + shared.size()));
  }
}

/// Opens everything as the next client would, and finds it empty.
void expect_all_is_free(const Provider &provider, const PciDevice &device, bool with_dma) {
  const Client next{provider, device};
  EXPECT_EQ(next.container.unmap_all(), unmaps({0}));
  if (with_dma)
    expect_dma_works(next.container, Edu{next.device});
}

/// While it lives, orphaned grandchildren become children of this process.
class OrphansBecomeOurs {
public:
  OrphansBecomeOurs() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  OrphansBecomeOurs(const OrphansBecomeOurs &) = delete;
  OrphansBecomeOurs &operator=(const OrphansBecomeOurs &) = delete;
  ~OrphansBecomeOurs() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

TEST_P(KilledClient, LeavesEverythingFree) {
  constexpr int rounds = 60;
  const PciDevice device = topology::lone_edus(1)[0];
  // From before the first open to well within the work.
  Moments moments{40ms};
  for (int round = 0; round < rounds && !HasFatalFailure(); ++round) {
    const auto delay = moments.next();
    SCOPED_TRACE(testing::Message()
                 << "round " << round << ", killed after " << delay.count() << " us");
    {
      Child client{[&] { work_until_killed(provider(), device); }};
      std::this_thread::sleep_for(delay);
    }
    ASSERT_NO_THROW(expect_all_is_free(provider(), device, round % 15 == 0));
  }
}

TEST_P(KilledClient, WithItsDmaUnderWay) {
  const PciDevice device = topology::lone_edus(1)[0];
  for (int round = 0; round < 3; ++round) {
    const Signpost under_way;
    Child client{[&] {
      const Client client{provider(), device};
      const Edu edu{client.device};
      const Memory memory{page};
      EXPECT_EQ(client.container.map(some_iova, memory), succeeds);
      edu.start_store(some_iova, Edu::largest_transfer);
      under_way.announce();
      std::this_thread::sleep_for(10s);
    }};
    ASSERT_TRUE(under_way.await());
    client.kill_now();
    EXPECT_FALSE(client.wait());
    expect_all_is_free(provider(), device, true);
  }
}

TEST_P(KilledClient, OneOfSeveralThreadsIsMapping) {
  constexpr int rounds = 20;
  const PciDevice device = topology::lone_edus(1)[0];
  Moments moments{20ms};
  for (int round = 0; round < rounds && !HasFailure(); ++round) {
    const Signpost working;
    Child client{[&] {
      const Client client{provider(), device};
      std::vector<std::jthread> threads;
      for (std::uint64_t n = 0; n < 4; ++n)
        threads.emplace_back([&, n] {
          const Memory memory{64_KiB};
          for (;;) {
            client.container.map(some_iova + 1_MiB * n, memory);
            client.container.unmap(some_iova + 1_MiB * n, memory.size());
          }
        });
      working.announce();
      std::this_thread::sleep_for(10s);
    }};
    ASSERT_TRUE(working.await());
    const auto delay = moments.next();
    SCOPED_TRACE(testing::Message()
                 << "round " << round << ", killed after " << delay.count() << " us");
    std::this_thread::sleep_for(delay);
    client.kill_now();
    EXPECT_FALSE(client.wait());
    expect_all_is_free(provider(), device, false);
  }
}

TEST_P(KilledClient, HoldingManyMappings) {
  const PciDevice device = topology::lone_edus(1)[0];
  const Signpost mapped;
  Child client{[&] {
    const Client client{provider(), device};
    const Memory memory = Memory::allocate(MemoryKind::MemfdShared, page);
    for (std::uint64_t n = 0; n < 2000; ++n)
      ASSERT_EQ(client.container.map(some_iova + page * 2 * n, memory), succeeds);
    mapped.announce();
    std::this_thread::sleep_for(10s);
  }};
  ASSERT_TRUE(mapped.await());
  client.kill_now();
  EXPECT_FALSE(client.wait());
  expect_all_is_free(provider(), device, true);
}

TEST_P(KilledClient, LeavesItsForkedChildWorking) {
  const PciDevice device = topology::lone_edus(1)[0];
  const OrphansBecomeOurs so_that_it_can_be_waited_for;
  const Signpost forked, orphaned;
  Child parent{[&] {
    const Client client{provider(), device};
    const Edu edu{client.device};
    if (::fork() == 0) {
      forked.announce();
      if (orphaned.await())
        expect_dma_works(client.container, edu);
      ::_exit(HasFailure() ? 1 : 0);
    }
    std::this_thread::sleep_for(10s);
  }};
  ASSERT_TRUE(forked.await());
  parent.kill_now();
  EXPECT_FALSE(parent.wait());
  orphaned.announce();
  int status = -1;
  EXPECT_GT(::waitpid(-1, &status, 0), 0);
  EXPECT_EQ(status, 0) << "the orphan's DMA";
  expect_all_is_free(provider(), device, false);
}

} // namespace
