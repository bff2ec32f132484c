// SPDX-License-Identifier: MIT
// Clients that have confined themselves with a seccomp filter: it judges the calls that they make,
// and no others.

#include "client/seccomp.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

LEGACY_SUITE(Sandbox, LegacySuite);

TEST_P(Sandbox, AFilterJudgesOnlyWhatTheClientDoes) {
  const PciDevice device = topology::lone_edus(1)[0];
  run_in_child([&] {
    forbid_oneself_borrowed_calls();
    const Client client{provider(), device};
    expect_dma_works(client.container, Edu{client.device});
  });
}

} // namespace
