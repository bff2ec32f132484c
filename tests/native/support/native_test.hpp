// SPDX-License-Identifier: MIT
/// @file
/// Fixtures: a program on this machine's real IOMMU and devices.
#pragma once

#include "client/edu.h"
#include "client/memory.h"
#include "client/topology.h"

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "support/program.hpp"

namespace vfio_shim::test {

using namespace std::string_literals;

inline constexpr Bytes page{0x1000};
/// Where tests map things: low enough for every edu's engine, and not IOVA 0.
inline constexpr Iova some_iova{0x100000};
inline constexpr Iova other_iova{0x800000};

inline ClientAddr address_of(const legacy::Memory &memory) {
  return address_of(memory.data());
}
inline Bytes size_of(const legacy::Memory &memory) {
  return Bytes{memory.size().count};
}
inline legacy::Iova to_legacy(Iova iova) {
  return {iova.value};
}

/// Opens real backends, on /dev/iommu.
BackendFactory iommufd_factory();

inline GroupId group_of(const legacy::PciDevice &device) {
  return GroupId{static_cast<std::uint32_t>(device.group)};
}

/// A device that was handed out, with the driver of the edu that it is. Closing it is up to the
/// test: edu's registers stay mapped, as they do in a real program.
class OpenEdu {
public:
  explicit OpenEdu(Fd file) : device_(legacy::Fd{file.release()}), edu_(device_) {}

  legacy::Device &device() { return device_; }
  const legacy::Edu &edu() const { return edu_; }

private:
  legacy::Device device_;
  legacy::Edu edu_;
};

/// Has the device read from @p memory, whose two pages are mapped at @p iova, and write what it has
/// read to the second page. @return Whether the bytes arrived.
bool dma_works(const legacy::Edu &edu, const legacy::Memory &memory, Iova iova);

/// Whether the device can write to @p memory, mapped at @p iova or not.
bool device_reaches(const legacy::Edu &edu, const legacy::Memory &memory, Iova iova);

/// Bytes that the kernel charges to this process as pinned.
std::uint64_t pinned_bytes();

/// A program that has opened nothing yet. At the end, every group must be free for the next one.
class NativeTest : public testing::Test {
protected:
  explicit NativeTest(std::optional<IovaRange> window = std::nullopt);
  void TearDown() override;

  std::vector<legacy::PciDevice> edus = legacy::topology::lone_edus(2);
  std::vector<legacy::PciDevice> pair = legacy::topology::edus_sharing_a_group();
  Program program;
};

/// The first edu's group in a container whose IOMMU is set.
class NativeContainerTest : public NativeTest {
protected:
  using NativeTest::NativeTest;

  void SetUp() override { group.emplace(program.open_group_in(group_of(edus[0]), container)); }
  void TearDown() override;

  Answer map(Iova iova, const legacy::Memory &memory, std::uint32_t flags = read_write) {
    return container.map(iova, address_of(memory), size_of(memory), flags);
  }

  ContainerFile container = program.open_container();
  std::optional<GroupFile> group;
};

} // namespace vfio_shim::test
