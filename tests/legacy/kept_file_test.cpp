// SPDX-License-Identifier: MIT
// While a group is registered with KVM, files of its devices are the program's for a moment. It can
// keep them, but not get at what the group's next user has on the device.

#include <filesystem>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "child.h"
#include "held_supervisor.h"
#include "machine.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// Whether `file` is an open file of a device's cdev.
bool is_cdev(const Fd &file) {
  struct stat status {};
  if (::fstat(file.number(), &status) != 0 || !S_ISCHR(status.st_mode))
    return false;
  std::error_code error;
  const fs::path device = "/sys/dev/char/" + std::to_string(major(status.st_rdev)) + ":" +
                          std::to_string(minor(status.st_rdev));
  return fs::read_symlink(device / "subsystem", error).filename() == "vfio-dev";
}

/// A copy of the cdev's file that a forked child has and this process has not.
Fd cdev_of(pid_t child) {
  const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, child, 0))};
  for (int number = 0; number < 1024; ++number) {
    if (::fcntl(number, F_GETFD) != -1)
      continue;
    Fd copy{static_cast<int>(::syscall(SYS_pidfd_getfd, process.number(), number, 0))};
    if (copy.is_open() && is_cdev(copy))
      return copy;
  }
  return Fd{};
}

/// Whether opening `node` comes to be answered so.
bool comes_to_be(const std::string &node, const Answer &answer) {
  for (int tries = 0; tries < 500; ++tries) {
    if (Fd::try_open(node, O_RDWR) == answer)
      return true;
    std::this_thread::sleep_for(20ms);
  }
  return false;
}

class KvmKeptFile : public LegacySuite {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KvmKeptFile);
INSTANTIATE_TEST_SUITE_P(, KvmKeptFile, testing::ValuesIn(supervised_providers()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(KvmKeptFile, KeepsTheGroupFromOthers) {
  const PciDevice device = topology::lone_edus(1)[0];
  const std::string node = provider().group_path(device.group);
  Fd kept;
  {
    const Client client{provider(), device};
    const Signpost calls;
    HeldSupervisor supervisor;
    Child child{[&] {
      const Machine machine;
      calls.announce();
      EXPECT_EQ(machine.add(client.group.fd().number()), succeeds);
    }};
    ASSERT_TRUE(calls.await());
    for (int moments = 0; moments < 5 && !kept.is_open(); ++moments) {
      ASSERT_TRUE(supervisor.is_held_within(10s));
      kept = cdev_of(child.pid());
    }
    ASSERT_TRUE(kept.is_open());
    ASSERT_TRUE(supervisor.finishes_within(10s));
    EXPECT_TRUE(child.wait());
  }
  EXPECT_TRUE(comes_to_be(node, fails(EBUSY)));
  std::this_thread::sleep_for(1s);
  EXPECT_EQ(Fd::try_open(node, O_RDWR), fails(EBUSY)) << "it stays so";
  kept.close();
  EXPECT_TRUE(comes_to_be(node, succeeds));
  expect_a_client_works(provider(), device);
}

} // namespace
