// SPDX-License-Identifier: MIT
// A process that ends while another of its threads is in a call: it ends at once, however it does.

#include <chrono>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

LEGACY_SUITE(EndBesideMap, LegacySuite);

/// Whether the child ends by itself. Nothing is said of how.
bool ends(Child &child) {
  return child.ends_within(10s);
}

/// Maps and unmaps private memory in a thread of its own, for ever.
void map_in_another_thread(const Container &container) {
  std::thread{[&container] {
    const Memory memory{page * 4};
    for (;;) {
      (void)container.map(some_iova, memory);
      (void)container.unmap(some_iova, memory.size());
    }
  }}.detach();
}

/// Has children end by `end` a little later each time, and sees them gone.
template <typename End>
void end_beside_a_map(const Provider &provider, int rounds, const End &end) {
  const PciDevice device = topology::lone_edus(1)[0];
  for (int round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    Child child{[&] {
      const Client client{provider, device};
      map_in_another_thread(client.container);
      std::this_thread::sleep_for(5ms + 137us * round);
      end();
    }};
    EXPECT_TRUE(ends(child)) << "it hangs";
  }
  expect_a_client_works(provider, device);
}

TEST_P(EndBesideMap, ByExec) {
  end_beside_a_map(provider(), 100, [] { ::execl("/bin/true", "true", nullptr); });
}

TEST_P(EndBesideMap, ByExecOfAnotherThread) {
  end_beside_a_map(provider(), 20,
                   [] { std::thread{[] { ::execl("/bin/true", "true", nullptr); }}.join(); });
}

TEST_P(EndBesideMap, ByExit) {
  end_beside_a_map(provider(), 20, [] { ::_exit(0); });
}

TEST_P(EndBesideMap, BySigkill) {
  end_beside_a_map(provider(), 20, [] { ::raise(SIGKILL); });
}

TEST_P(EndBesideMap, ByACoreDump) {
  end_beside_a_map(provider(), 20, [] {
    const rlimit large{64 << 20, 64 << 20};
    ASSERT_EQ(::setrlimit(RLIMIT_CORE, &large), 0);
    ASSERT_EQ(::chdir(temporary_directory().c_str()), 0);
    ::abort();
  });
  ::unlink((temporary_directory() + "/core").c_str());
}

} // namespace
