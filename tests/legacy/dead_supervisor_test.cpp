// SPDX-License-Identifier: MIT
// The supervisor is killed while it serves a call. Nobody is supervised afterwards: this suite
// needs a `vfio-shim run` of its own.

#include <cerrno>

#include <sys/ptrace.h>

#include "child.h"
#include "held_supervisor.h"
#include "machine.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

class DeadSupervisor : public AttachedSuite {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeadSupervisor);
INSTANTIATE_TEST_SUITE_P(, DeadSupervisor, testing::ValuesIn(supervised_providers()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(DeadSupervisor, LeavesNoCallThatSeemsToHaveSucceeded) {
  const Signpost calls;
  HeldSupervisor supervisor{PTRACE_GETSIGMASK};
  Child child{[&] {
    const Machine machine;
    calls.announce();
    EXPECT_EQ(machine.add(client().group.fd().number()), fails(ENOSYS));
    EXPECT_EQ(machine.remove(client().group.fd().number()), fails(ENOSYS)) << "nobody serves it";
  }};
  ASSERT_TRUE(calls.await());
  ASSERT_TRUE(supervisor.is_held_within(10s)) << "about to seize the thread";
  ASSERT_TRUE(supervisor.is_held_within(10s)) << "has seized it, and answered the call";
  supervisor.kill();
  EXPECT_TRUE(child.wait());
}

} // namespace
