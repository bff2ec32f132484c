// SPDX-License-Identifier: MIT
// The registry of device memory: what can be found in it, and for how long.

#include "backend/device_memory.hpp"

#include <sys/stat.h>

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr std::uint32_t bar_of_edu = 0;
constexpr std::uint32_t region_without_memory = VFIO_PCI_CONFIG_REGION_INDEX;

class NativeDeviceMemory : public NativeContainerTest {
protected:
  void SetUp() override {
    NativeContainerTest::SetUp();
    device = group->device(edus[0].address);
    struct stat status {};
    ASSERT_EQ(::fstat(device.get(), &status), 0);
    identity = {.filesystem = status.st_dev, .inode = status.st_ino};
  }
  void TearDown() override {
    device.reset();
    NativeContainerTest::TearDown();
  }

  Fd device;
  FileIdentity identity;
  DeviceMemory memory;
  FileStore nowhere;
};

TEST_F(NativeDeviceMemory, IsFoundForAsLongAsItIsKept) {
  EXPECT_EQ(answer_of(memory.find(identity, bar_of_edu)), fails(ENODEV)) << "not known yet";
  auto bars = memory.add(device, nowhere);
  EXPECT_EQ(answer_of(memory.find(identity, bar_of_edu)), succeeds);
  bars->reset();
  EXPECT_EQ(answer_of(memory.find(identity, bar_of_edu)), fails(ENODEV));
}

TEST_F(NativeDeviceMemory, BelongsToOneFile) {
  const auto bars = memory.add(device, nowhere);
  FileIdentity other = identity;
  ++other.inode;
  EXPECT_EQ(answer_of(memory.find(other, bar_of_edu)), fails(ENODEV));
  other = identity;
  ++other.filesystem;
  EXPECT_EQ(answer_of(memory.find(other, bar_of_edu)), fails(ENODEV));
}

TEST_F(NativeDeviceMemory, IsThatOfBarsOnly) {
  const auto bars = memory.add(device, nowhere);
  for (const std::uint32_t index : {bar_of_edu + 1, region_without_memory, ~0U})
    EXPECT_EQ(answer_of(memory.find(identity, index)), fails(ENODEV)) << index;
}

TEST_F(NativeDeviceMemory, DoesNotKeepTheDeviceOpen) {
  const auto bars = memory.add(device, nowhere);
  const auto dma_buf = memory.find(identity, bar_of_edu);
  ASSERT_TRUE(dma_buf);
  device.reset();
  EXPECT_EQ(group->unset_container(), succeeds);
}

} // namespace
} // namespace vfio_shim::test
