// SPDX-License-Identifier: MIT
// A client that another process traces, as a debugger does.

#include <cerrno>
#include <chrono>
#include <csignal>

#include <sys/ptrace.h>
#include <sys/wait.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

LEGACY_SUITE(TracedClient, AttachedSuite);

Answer seize(pid_t pid) {
  return Answer::of(::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr));
}

/// Stops and lets go of a traced process.
void let_go(pid_t pid) {
  ASSERT_EQ(Answer::of(::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr)), succeeds);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_EQ(Answer::of(::ptrace(PTRACE_DETACH, pid, nullptr, nullptr)), succeeds);
}

TEST_P(TracedClient, MapsAndGoesOn) {
  const Signpost traced, tried, released;
  const Answer while_traced = expected(Behaviour::TracedClientMaps, succeeds);
  Child child{[&] {
    const Memory memory{page};
    ASSERT_TRUE(traced.await());
    EXPECT_EQ(container().map(some_iova, memory), while_traced);
    EXPECT_EQ(container().unmap_all(), while_traced.ok() ? unmaps(page) : unmaps({0}));
    tried.announce();
    ASSERT_TRUE(released.await());
    EXPECT_EQ(container().map(some_iova, memory), succeeds) << "when it is no longer traced";
    EXPECT_EQ(container().unmap_all(), unmaps(page));
  }};
  ASSERT_EQ(seize(child.pid()), succeeds);
  traced.announce();
  ASSERT_TRUE(tried.await());
  let_go(child.pid());
  released.announce();
  EXPECT_TRUE(child.wait());
}

TEST_P(TracedClient, ADebuggerThatComesLaterDoesNotMatter) {
  // Through the kernel's own containers, the client's thread is needed for every map.
  const Answer while_traced =
      provider().name == "shim" ? succeeds : expected(Behaviour::TracedClientMaps, succeeds);
  const Signpost mapped, traced, tried, released;
  Child child{[&] {
    const Memory memory{page};
    EXPECT_EQ(container().map(some_iova, memory), succeeds);
    mapped.announce();
    ASSERT_TRUE(traced.await());
    const Memory another{page};
    EXPECT_EQ(container().map(some_iova + page, another), while_traced);
    EXPECT_EQ(container().unmap_all(), unmaps(while_traced.ok() ? page * 2 : page));
    tried.announce();
    ASSERT_TRUE(released.await());
  }};
  ASSERT_TRUE(mapped.await());
  ASSERT_EQ(seize(child.pid()), succeeds);
  traced.announce();
  EXPECT_TRUE(tried.await());
  let_go(child.pid());
  released.announce();
  EXPECT_TRUE(child.wait());
}

TEST_P(TracedClient, ADebuggerMayComeAndGoAtAnyTime) {
  const Signpost working, done;
  const Answer while_traced = expected(Behaviour::TracedClientMaps, succeeds);
  Child child{[&] {
    const Memory memory{page};
    working.announce();
    while (!done.await(0s) && !HasFailure()) {
      const Answer answer = container().map(some_iova, memory);
      EXPECT_TRUE(answer == succeeds || answer == while_traced) << answer;
      EXPECT_EQ(container().unmap_all(), answer == succeeds ? unmaps(page) : unmaps({0}));
    }
  }};
  ASSERT_TRUE(working.await());
  const auto give_up = std::chrono::steady_clock::now() + 15s;
  for (int seized = 0; seized < 20;) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << "seized it " << seized << " times only";
    const Answer answer = seize(child.pid());
    // While a call borrows the client's thread, that thread has a tracer already.
    ASSERT_TRUE(answer == succeeds || answer == fails(EPERM)) << answer;
    if (answer.ok()) {
      ++seized;
      let_go(child.pid());
    }
  }
  done.announce();
  EXPECT_TRUE(child.wait());
}

} // namespace
