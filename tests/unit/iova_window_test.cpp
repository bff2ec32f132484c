// SPDX-License-Identifier: MIT
/// @file
/// Containers that are limited to a window of IOVAs.

#include "iova_window.hpp"
#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr IovaRange range(std::uint64_t first, std::uint64_t last) {
  return {Iova{first}, Iova{last}};
}

TEST(FirstHole, IsWhatTheRangesLeaveOut) {
  const std::vector usable{range(0x1000, 0x1fff), range(0x4000, 0x7fff)};
  EXPECT_EQ(first_hole(usable, range(0x4000, 0x7fff)), std::nullopt);
  EXPECT_EQ(first_hole(usable, range(0x5000, 0x6fff)), std::nullopt);
  EXPECT_EQ(first_hole(usable, range(0, 0x1fff)), range(0, 0xfff));
  EXPECT_EQ(first_hole(usable, range(0x1000, 0x4fff)), range(0x2000, 0x3fff));
  EXPECT_EQ(first_hole(usable, range(0x2000, 0x2fff)), range(0x2000, 0x2fff));
  EXPECT_EQ(first_hole(usable, range(0x7000, 0x8fff)), range(0x8000, 0x8fff));
  EXPECT_EQ(first_hole(usable, range(0x9000, UINT64_MAX)), range(0x9000, UINT64_MAX));
}

TEST(FirstHole, IsAllOfTheWindowWhereNothingIsUsable) {
  EXPECT_EQ(first_hole({}, range(0, UINT64_MAX)), range(0, UINT64_MAX));
}

TEST(FirstHole, IsNoneBetweenRangesThatTouch) {
  const std::vector usable{range(0, 0xfff), range(0x1000, UINT64_MAX)};
  EXPECT_EQ(first_hole(usable, range(0, UINT64_MAX)), std::nullopt);
}

constexpr Bytes page{0x1000};
constexpr IovaRange window{Iova{0x100000}, Iova{0x4fffffff}};

/// A program whose containers have the window, which the third group's reserved range cuts.
class Windowed : public MachineTest {
protected:
  Program windowed{{.make_backend = machine.factory(), .iova_window = window},
                   machine.sysfs.roots()};
  ContainerFile container = windowed.open_container();
};

TEST_F(Windowed, SaysExactlyWhatIsUsable) {
  const GroupFile group = windowed.open_group_in(first_group, container);
  EXPECT_EQ(container.info().usable, (std::vector{window}));
}

TEST_F(Windowed, MapsInsideOnly) {
  const GroupFile group = windowed.open_group_in(first_group, container);
  EXPECT_EQ(container.map(window.first + page, some_memory, page), succeeds);
  EXPECT_EQ(container.map(Iova{window.last.value - 0xfff}, some_memory, page), succeeds);
  EXPECT_EQ(container.map(Iova{0xff000}, some_memory, page), fails(EINVAL));
  EXPECT_EQ(container.map(Iova{0xff000}, some_memory, Bytes{0x2000}), fails(EINVAL));
  EXPECT_EQ(container.map(Iova{window.last.value + 1}, some_memory, page), fails(EINVAL));
}

TEST_F(Windowed, RefusesAGroupThatCannotUseAllOfIt) {
  GroupFile group = windowed.open_group(pair_group);
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_EQ(container.set_iommu(), fails(EINVAL));
  EXPECT_EQ(container.set_iommu(), fails(EINVAL)) << "again";
}

TEST_F(Windowed, RefusesASecondGroupThatCannotUseAllOfIt) {
  const GroupFile group = windowed.open_group_in(first_group, container);
  ASSERT_EQ(container.map(window.first, some_memory, page), succeeds);
  GroupFile second = windowed.open_group(pair_group);
  EXPECT_EQ(second.set_container(container), fails(EINVAL));
  EXPECT_FALSE(machine.claimed(pair_group));
  EXPECT_EQ(container.info().usable, (std::vector{window}));
  GroupFile third = windowed.open_group(second_group);
  EXPECT_EQ(third.set_container(container), succeeds);
}

} // namespace
} // namespace vfio_shim::test
