// SPDX-License-Identifier: MIT
// A test of the tests: a known difference that is asked for in a forked child would not reach the
// results, and docs/conformance.md would claim that the provider does as type1 does.

#include <cstdio>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

TEST(LostNotes, FailTheChildThatTakesThem) {
  const auto take_a_note = [] {
    note_difference(providers_under_test().front(), Behaviour::UpdateVaddr);
  };
  Child child{[&] {
    ASSERT_TRUE(std::freopen("/dev/null", "w", stdout)) << "what fails here is meant to";
    take_a_note();
  }};
  EXPECT_FALSE(child.wait());
  take_a_note(); // In the test's own process it is right.
}

} // namespace
