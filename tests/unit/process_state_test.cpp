// SPDX-License-Identifier: MIT
/// @file
/// What an agent takes for a container process state.

#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "supervise/process_state.hpp"
#include "support/answer.hpp"

namespace vfio_shim::supervise {
namespace {

using test::answer_of;
using test::fails;

TEST(ProcessState, SaysWhichDescriptorIsTheListener) {
  const auto state = parse_process_state(
      R"({"ociVersion": "1.0.2", "fds": ["pidFd", "seccompFd"], "pid": 42,
          "state": {"id": "web\u001b[2J", "status": "creating"}})");
  ASSERT_TRUE(state);
  EXPECT_EQ(state->listener, 1U);
  EXPECT_EQ(state->who, "container web?[2J, pid 42");
}

TEST(ProcessState, NeedsNothingButTheListener) {
  const auto state = parse_process_state(R"({"fds": ["seccompFd"]})");
  ASSERT_TRUE(state);
  EXPECT_EQ(state->who, "no pid");
}

TEST(ProcessState, IsNothingElse) {
  for (const char *text : {"", "1", "[]", "{", "{}", R"({"fds": "seccompFd"})", R"({"fds": []})",
                           R"({"fds": [{}, 1, null]})", R"("fds")"})
    EXPECT_EQ(answer_of(parse_process_state(text)), fails(EPROTO)) << text;
}

TEST(ProcessState, OfAnyTypesIsNoHarm) {
  const auto state = parse_process_state(
      R"({"fds": ["seccompFd"], "pid": "x", "state": {"id": {}}, "metadata": [[[]]]})");
  ASSERT_TRUE(state);
  EXPECT_EQ(state->who, "no pid");
}

} // namespace
} // namespace vfio_shim::supervise
