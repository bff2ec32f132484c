// SPDX-License-Identifier: MIT
// A daemon without a free descriptor: calls may fail, clients do not.

#include <chrono>
#include <thread>

#include "child.h"
#include "daemon.h"
#include "missing_page.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

LEGACY_SUITE_OF_SHIMS(ShortOfDescriptors, AttachedSuite);

TEST_P(ShortOfDescriptors, ALongCallGoesOn) {
  const pid_t daemon = daemon_of(provider());
  run_in_child([&] {
    const MissingPage slow;
    std::jthread filler{[&] {
      slow.await_fault();
      const DescriptorLimit none{daemon, 3};
      std::this_thread::sleep_for(300ms); // The daemon looks every 50 ms whether we are alive.
      slow.fill();
    }};
    EXPECT_EQ(container().map(some_iova, slow.missing(), page), succeeds);
    filler.join();
    sigset_t mask;
    ASSERT_EQ(::sigprocmask(SIG_BLOCK, nullptr, &mask), 0);
    EXPECT_FALSE(sigismember(&mask, SIGUSR1)) << "its signals stayed blocked";
    EXPECT_EQ(container().unmap_all(), unmaps(page));
  });
}

TEST_P(ShortOfDescriptors, ACallThatNeedsOneFailsAndTheNextSucceeds) {
  const pid_t daemon = daemon_of(provider());
  run_in_child([&] {
    const Memory memory{page};
    {
      const DescriptorLimit none{daemon, 3};
      const Answer answer = container().map(some_iova, memory);
      EXPECT_TRUE(answer == succeeds || answer == fails(ENFILE)) << answer;
      EXPECT_EQ(container().unmap_all(), answer == succeeds ? unmaps(page) : unmaps({0}));
    }
    EXPECT_EQ(container().map(some_iova, memory), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(page));
  });
}

TEST_P(ShortOfDescriptors, ManyProcessesTakeFewOfThem) {
  const pid_t daemon = daemon_of(provider());
  const std::size_t before = descriptors_of(daemon);
  constexpr int processes = 40;
  std::vector<std::unique_ptr<Child>> children;
  const Signpost done;
  for (int i = 0; i < processes; ++i) {
    const Signpost mapped;
    children.push_back(std::make_unique<Child>([&] {
      const Memory memory{page};
      EXPECT_EQ(container().map(some_iova, memory), succeeds);
      EXPECT_EQ(container().unmap_all(), unmaps(page));
      mapped.announce();
      std::this_thread::sleep_for(60s);
    }));
    ASSERT_TRUE(mapped.await());
  }
  EXPECT_LE(descriptors_of(daemon), before + 160);
  children.clear();
}

} // namespace
