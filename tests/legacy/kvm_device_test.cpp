// SPDX-License-Identifier: MIT
// A program that has a machine of KVM's gets a device: KVM is told of it without being asked to,
// where nobody supervises the program.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "child.h"
#include "held_supervisor.h"
#include "machine.h"
#include "patience.h"
#include "suite.h"
#include "surviving_daemon.h"
#include "unbinding.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::vector<Provider> unsupervised_providers() {
  return ::prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER ? std::vector<Provider>{}
                                                        : shims_under_test();
}

/// How many files of devices the daemon has opened for KVM: each on a node of its own, which has
/// gone since.
int files_for_kvm(const Provider &provider) {
  std::error_code error;
  int files = 0;
  for (const auto &entry :
       fs::directory_iterator{"/proc/" + std::to_string(report_on(provider).worker) + "/fd", error})
    files += fs::read_symlink(entry.path(), error) == "/cdev (deleted)" ? 1 : 0;
  return files;
}

/// The numbers of this process's descriptors.
std::set<std::string> descriptors() {
  std::set<std::string> numbers;
  for (const auto &entry : fs::directory_iterator{"/proc/self/fd"})
    numbers.insert(entry.path().filename());
  return numbers;
}

class KvmDeviceSuite : public LegacySuite {
protected:
  const PciDevice device_ = topology::lone_edus(1)[0];
};

class KvmDevice : public KvmDeviceSuite {
protected:
  void TearDown() override {
    EXPECT_TRUE(within(5s, [&] { return files_for_kvm(provider()) == 0; }));
    EXPECT_TRUE(appears(provider(), device_));
    expect_a_client_works(provider(), device_);
  }

  /// Whether the device can be unbound from its driver.
  bool can_be_unbound() const {
    const Unbinding unbinding{device_};
    return unbinding.ends_within(5s);
  }
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KvmDevice);
INSTANTIATE_TEST_SUITE_P(, KvmDevice, testing::ValuesIn(unsupervised_providers()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(KvmDevice, IsKnownUntilTheMachineEnds) {
  std::optional<Machine> machine{std::in_place};
  Client client{provider(), device_};
  client.device.close();
  const Unbinding unbinding{device_};
  EXPECT_FALSE(unbinding.ends_within(500ms)) << "KVM has a file of the device";
  machine.reset();
  EXPECT_TRUE(unbinding.ends_within(5s));
}

TEST_P(KvmDevice, IsKnownUntilItsGroupLeaves) {
  const Machine machine;
  Client client{provider(), device_};
  EXPECT_EQ(files_for_kvm(provider()), 1);
  client.device.close();
  ASSERT_EQ(client.group.unset_container(), succeeds);
  EXPECT_EQ(files_for_kvm(provider()), 0);
  EXPECT_TRUE(can_be_unbound());
}

TEST_P(KvmDevice, IsUnpluggedAndPluggedInAgain) {
  const Machine machine;
  Client client{provider(), device_};
  for (int round = 0; round < 3; ++round) {
    client.device.close();
    ASSERT_EQ(client.group.unset_container(), succeeds);
    ASSERT_EQ(client.group.set_container(client.container), succeeds);
    ASSERT_EQ(client.container.set_iommu(IommuType::Type1v2), succeeds);
    client.device = client.group.device(device_.address);
    EXPECT_EQ(files_for_kvm(provider()), 1);
  }
  expect_dma_works(client.container, Edu{client.device});
}

TEST_P(KvmDevice, IsOpenedOnceMore) {
  const Machine machine;
  const Client client{provider(), device_};
  const Device again = client.group.device(device_.address);
  EXPECT_EQ(files_for_kvm(provider()), 1);
}

TEST_P(KvmDevice, IsKnownToTheNextMachine) {
  Client client{provider(), device_};
  EXPECT_EQ(files_for_kvm(provider()), 0) << "there is no machine";
  for (int round = 0; round < 2; ++round) {
    const Machine machine;
    const Device again = client.group.device(device_.address);
    EXPECT_EQ(files_for_kvm(provider()), 1);
  }
}

TEST_P(KvmDevice, LeavesNothingInTheProcess) {
  const Machine machine;
  const Container container{provider()};
  const Group group{provider(), device_.group};
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
  {
    const Device first = group.device(device_.address);
  } // What stays in clients for good is there.
  const auto before = descriptors();
  { const Device device = group.device(device_.address); }
  EXPECT_EQ(descriptors(), before);
}

TEST_P(KvmDevice, IsToldByTheOwnerOfTheMachineOnly) {
  const Machine machine;
  const Container container{provider()};
  const Group group{provider(), device_.group};
  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
  run_in_child([&] {
    const Device device = group.device(device_.address);
    EXPECT_EQ(files_for_kvm(provider()), 0) << "the machine is its parent's";
    const Machine own;
    const Device again = group.device(device_.address);
    EXPECT_EQ(files_for_kvm(provider()), 1);
  });
  const Device device = group.device(device_.address);
  EXPECT_GE(files_for_kvm(provider()), 1);
}

TEST_P(KvmDevice, NumbersMayMeanSomethingElseMeanwhile) {
  const Machine machine;
  Client client{provider(), device_};
  const Fd other = Fd::open("/dev/null", O_RDWR);
  const Fd saved{::fcntl(machine.device().number(), F_DUPFD_CLOEXEC, 0)};
  std::atomic<bool> stop = false;
  std::jthread juggler{[&] {
    while (!stop) {
      ::dup2(other.number(), machine.device().number());
      ::dup2(client.group.fd().number(), machine.device().number());
      ::dup2(saved.number(), machine.device().number());
    }
  }};
  for (int round = 0; round < 20; ++round)
    EXPECT_TRUE(client.group.device(device_.address).fd().is_open());
  stop = true;
  juggler.join();
  client.device.close();
  EXPECT_EQ(client.group.unset_container(), succeeds);
  EXPECT_EQ(files_for_kvm(provider()), 0);
}

TEST_P(KvmDevice, OutlivesTheWorker) {
  const Machine machine;
  Client client{provider(), device_};
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(files_for_kvm(provider()), 1);
  client.device.close();
  ASSERT_EQ(client.group.unset_container(), succeeds);
  EXPECT_TRUE(can_be_unbound()) << "the next worker has told KVM";
}

class KvmDeviceSupervised : public KvmDeviceSuite {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KvmDeviceSupervised);
INSTANTIATE_TEST_SUITE_P(, KvmDeviceSupervised, testing::ValuesIn(supervised_providers()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(KvmDeviceSupervised, IsLeftToTheSupervisor) {
  const Machine machine;
  const Client client{provider(), device_};
  EXPECT_EQ(files_for_kvm(provider()), 0);
  EXPECT_EQ(machine.add(client.group.fd().number()), succeeds);
}

} // namespace
