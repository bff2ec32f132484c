// SPDX-License-Identifier: MIT
// A caller of the supervisor is killed while it is served, and its number goes to another process,
// which may have more rights than the caller had.

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include <linux/vfio.h>

#include "child.h"
#include "held_supervisor.h"
#include "machine.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

constexpr std::uint32_t seed = 77;

/// The next process to be forked gets `number`, if nobody else forks meanwhile.
void choose_next_number(pid_t number) {
  std::ofstream{"/proc/sys/kernel/ns_last_pid"} << number - 1 << std::flush;
}

std::set<std::string> descriptors() {
  std::set<std::string> numbers;
  for (const auto &entry : std::filesystem::directory_iterator{"/proc/self/fd"})
    numbers.insert(entry.path().filename());
  return numbers;
}

class KvmReusedId : public AttachedSuite {
protected:
  /// Kills `caller`, which makes a trapped call, when the supervisor is about to act upon it, and
  /// gives its number to somebody else. That process must not notice anything.
  void expect_no_harm(const std::function<void()> &call) {
    const Signpost calls, over;
    HeldSupervisor supervisor;
    auto caller = std::make_unique<Child>([&] {
      calls.announce();
      call();
      ADD_FAILURE() << "the call came back";
    });
    ASSERT_TRUE(calls.await());
    ASSERT_TRUE(supervisor.is_held_within(10s));
    const pid_t number = caller->pid();
    caller.reset();

    choose_next_number(number);
    Child bystander{[&] {
      const auto before = descriptors();
      EXPECT_TRUE(over.await()) << "its system call was not its own";
      EXPECT_TRUE(memory_.holds({0}, page, seed)) << "its memory was written";
      EXPECT_EQ(descriptors(), before);
    }};
    ASSERT_EQ(bystander.pid(), number) << "somebody else has forked";
    EXPECT_TRUE(supervisor.finishes_within(10s));
    over.announce();
    EXPECT_TRUE(bystander.wait());
  }

  void SetUp() override {
    AttachedSuite::SetUp();
    memory_.fill({0}, page, seed);
  }

  const Memory memory_{page}; ///< At the same address in every process here.
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KvmReusedId);
INSTANTIATE_TEST_SUITE_P(, KvmReusedId, testing::ValuesIn(supervised_providers()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(KvmReusedId, IsNotMadeToRegisterAGroup) {
  expect_no_harm([&] {
    const Machine machine;
    machine.add(client().group.fd().number());
  });
  expect_dma_works(container(), edu());
}

TEST_P(KvmReusedId, IsNotToldOfABus) {
  const PciDevice device = topology::edus_sharing_a_group()[0];
  const Client pair{provider(), device};
  expect_no_harm([&] {
    const std::uint32_t size = page.count;
    std::memcpy(memory_.data(), &size, sizeof(size));
    pair.device.fd().ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, memory_.data());
  });
}

} // namespace
