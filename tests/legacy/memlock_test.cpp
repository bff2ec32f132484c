// SPDX-License-Identifier: MIT
// RLIMIT_MEMLOCK: pinned memory counts against it, unless the client has CAP_IPC_LOCK.

#include <cerrno>
#include <fstream>

#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr uid_t nobody = 65534;
// What systemd and the kernel give by default.
constexpr Bytes limit = 8_MiB;

void set_limit() {
  const rlimit wanted{limit.count, limit.count};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &wanted), 0);
}

void become_nobody() {
  ASSERT_EQ(::setresgid(nobody, nobody, nobody), 0);
  ASSERT_EQ(::setresuid(nobody, nobody, nobody), 0);
}

void become_nobody_with_cap_ipc_lock() {
  ASSERT_EQ(::prctl(PR_SET_KEEPCAPS, 1), 0);
  become_nobody();
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct capabilities[2]{};
  capabilities[0].effective = capabilities[0].permitted = 1u << CAP_IPC_LOCK;
  ASSERT_EQ(::syscall(SYS_capset, &header, capabilities), 0);
}

/// This process's locked memory, as the kernel accounts it.
Bytes locked_memory() {
  std::ifstream status{"/proc/self/status"};
  for (std::string word; status >> word;)
    if (word == "VmLck:") {
      std::uint64_t kib = 0;
      status >> kib;
      return {kib << 10};
    }
  throw std::runtime_error{"/proc/self/status has no VmLck"};
}

LEGACY_SUITE(Memlock, AttachedSuite);

TEST_P(Memlock, TheLimitIsKeptToThePage) {
  run_in_child([&] {
    set_limit();
    become_nobody();
    const Memory memory{limit + page};
    EXPECT_EQ(container().map(some_iova, memory), fails(ENOMEM));
    EXPECT_EQ(container().unmap_all(), unmaps({0})) << "nothing stays mapped";
    EXPECT_EQ(container().map(some_iova, memory.data(), limit), succeeds) << "exactly the limit";
    EXPECT_EQ(container().map(some_iova + 16_MiB, memory.data(), page), fails(ENOMEM))
        << "a page more";
    EXPECT_EQ(container().unmap_all(), unmaps(limit));
    EXPECT_EQ(container().map(some_iova, memory.data(), limit), succeeds) << "it was given back";
    EXPECT_EQ(container().unmap_all(), unmaps(limit));
  });
}

TEST_P(Memlock, SmallMappingsAddUp) {
  run_in_child([&] {
    set_limit();
    become_nobody();
    const Memory memory{limit};
    for (std::uint64_t i = 0; i < 4; ++i)
      EXPECT_EQ(container().map(some_iova + 16_MiB * i, memory.data(), 2_MiB), succeeds)
          << "the same memory counts again";
    EXPECT_EQ(container().map(some_iova + 64_MiB, memory.data(), page), fails(ENOMEM));
    EXPECT_EQ(container().unmap_all(), unmaps(limit));
  });
}

TEST_P(Memlock, SharedMemoryCountsToo) {
  run_in_child([&] {
    set_limit();
    become_nobody();
    const Memory memory = Memory::allocate(MemoryKind::MemfdShared, limit + page);
    EXPECT_EQ(container().map(some_iova, memory), fails(ENOMEM));
    EXPECT_EQ(container().map(some_iova, memory.data(), limit), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(limit));
  });
}

TEST_P(Memlock, HugePagesCountToo) {
  run_in_child([&] {
    set_limit();
    become_nobody();
    const Memory memory = Memory::allocate(MemoryKind::HugetlbShared, limit + huge_page);
    EXPECT_EQ(container().map(some_iova, memory), fails(ENOMEM));
    EXPECT_EQ(container().map(some_iova, memory.data(), limit), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(limit));
  });
}

TEST_P(Memlock, RootIsExempt) {
  run_in_child([&] {
    set_limit();
    const Memory memory{limit * 2};
    EXPECT_EQ(container().map(some_iova, memory), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(limit * 2));
  });
}

TEST_P(Memlock, TheCapabilityAloneExempts) {
  run_in_child([&] {
    set_limit();
    become_nobody_with_cap_ipc_lock();
    const Memory memory{limit * 2};
    EXPECT_EQ(container().map(some_iova, memory), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(limit * 2));
  });
}

TEST_P(Memlock, RootOfAUserNamespaceIsNotExempt) {
  run_in_child([&] {
    set_limit();
    ASSERT_EQ(::unshare(CLONE_NEWUSER), 0);
    const Memory memory{limit * 2};
    EXPECT_EQ(container().map(some_iova, memory), fails(ENOMEM));
    EXPECT_EQ(container().map(some_iova, memory.data(), limit), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(limit));
  });
}

TEST_P(Memlock, ItIsTheCallersLimit) {
  // The container belongs to a privileged parent; who maps is who pays.
  const Memory parents{limit * 2};
  run_in_child([&] {
    set_limit();
    become_nobody();
    EXPECT_EQ(container().map(some_iova, parents), fails(ENOMEM));
  });
  EXPECT_EQ(container().map(some_iova, parents), succeeds);
}

TEST_P(Memlock, IsVisibleInTheClientsStatus) {
  const Bytes charged = differs(Behaviour::LockedMemoryPerUser) ? 0_B : 4_MiB;
  run_in_child([&] {
    set_limit();
    become_nobody();
    const Memory memory{4_MiB};
    const Bytes before = locked_memory();
    ASSERT_EQ(container().map(some_iova, memory), succeeds);
    EXPECT_EQ(locked_memory() - before, charged);
    ASSERT_EQ(container().unmap_all(), unmaps(4_MiB));
    EXPECT_EQ(locked_memory(), before);
  });
}

TEST_P(Memlock, WhatIsMlockedCountsAlong) {
  const Answer too_much = expected(Behaviour::LockedMemoryPerUser, fails(ENOMEM));
  run_in_child([&] {
    set_limit();
    become_nobody();
    const Memory locked{4_MiB}, memory{limit};
    ASSERT_EQ(::mlock(locked.data(), locked.size().count), 0);
    EXPECT_EQ(container().map(some_iova, memory), too_much);
    container().unmap_all();
    EXPECT_EQ(container().map(some_iova, memory.data(), 4_MiB), succeeds);
    EXPECT_EQ(container().unmap_all(), unmaps(4_MiB));
  });
}

} // namespace
