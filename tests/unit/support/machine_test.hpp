// SPDX-License-Identifier: MIT
/// @file
/// Fixtures: a program on a fake machine.
#pragma once

#include <optional>

#include <gtest/gtest.h>

#include "fake_machine.hpp"
#include "program.hpp"

namespace vfio_shim::test {

inline constexpr GroupId first_group{1};
inline constexpr GroupId second_group{5};
/// Two devices that the IOMMU cannot tell apart, and a third IOVA range reserved.
inline constexpr GroupId pair_group{6};

inline constexpr auto first_device = "0000:00:02.0";
inline constexpr auto second_device = "0000:00:06.0";
inline constexpr auto pair_device_a = "0000:01:01.0";
inline constexpr auto pair_device_b = "0000:01:02.0";

/// What pair_group cannot use.
inline constexpr IovaRange pair_reserved{Iova{0x40000000}, Iova{0x4fffffff}};

/// A machine of three groups, and a program. Nothing is open at the start of a test.
class MachineTest : public testing::Test {
protected:
  explicit MachineTest(Ledger *ledger = nullptr, std::uint32_t mapping_limit = 65535)
      : program(
            {.make_backend = machine.factory(), .ledger = ledger, .mapping_limit = mapping_limit},
            machine.sysfs.roots()) {
    machine.add_group(first_group, {first_device});
    machine.add_group(second_group, {second_device});
    machine.add_group(pair_group, {pair_device_a, pair_device_b}, {pair_reserved});
  }

  FakeMachine machine;
  Program program;
};

/// The same, with the first group in a container whose IOMMU is set.
class ContainerTest : public MachineTest {
protected:
  using MachineTest::MachineTest;

  void SetUp() override { group.emplace(program.open_group_in(first_group, container)); }

  ContainerFile container = program.open_container();
  std::optional<GroupFile> group;
};

/// Client memory for mappings that nothing is ever read from or written to.
inline constexpr ClientAddr some_memory{0x7f0000000000};

} // namespace vfio_shim::test
