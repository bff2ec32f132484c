// SPDX-License-Identifier: MIT
// Locks on the inode that all anonymous files share: anybody can take them, and they must not
// matter.

#include <fcntl.h>
#include <grp.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr uid_t nobody = 65534;

LEGACY_SUITE(ForeignLocks, LegacySuite);

/// Takes a lock on every byte of every anonymous file, as a user without any rights.
void lock_anonymous_files(int eventfd) {
  ASSERT_EQ(::setresuid(nobody, nobody, nobody), 0);
  struct flock all {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  ASSERT_EQ(::fcntl(eventfd, F_OFD_SETLK, &all), 0);
}

TEST_P(ForeignLocks, DoNotKeepAClientFromItsDeviceNorItsGroupFromOthers) {
  const PciDevice device = topology::lone_edus(1)[0];
  const Signpost locked;
  Child stranger{[&] {
    const Fd file{::eventfd(0, EFD_CLOEXEC)};
    lock_anonymous_files(file.number());
    locked.announce();
    ::pause();
  }};
  ASSERT_TRUE(locked.await());
  for (int client = 0; client < 2; ++client)
    expect_a_client_works(provider(), device);
}

} // namespace
