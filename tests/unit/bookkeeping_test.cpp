// SPDX-License-Identifier: MIT
/// @file
/// What containers and groups tell the ledger: everything that is, once, and nothing that is not.

#include <set>

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr Bytes page{0x1000};

/// Keeps what it is told, and fails the test if that makes no sense.
class Books final : public Ledger {
public:
  struct ContainerRecord {
    std::uint32_t type = 0;
    std::map<Record, MappingEntry> mappings;
  };
  struct GroupRecord {
    GroupId id;
    Record container = 0;
    std::map<Record, std::string> devices;
  };

  std::map<Record, ContainerRecord> containers;
  std::map<Record, GroupRecord> groups;
  bool full = false; ///< There is no room for anything new.

  std::size_t mappings() const {
    std::size_t count = 0;
    for (const auto &[record, container] : containers)
      count += container.mappings.size();
    return count;
  }
  std::size_t devices() const {
    std::size_t count = 0;
    for (const auto &[record, group] : groups)
      count += group.devices.size();
    return count;
  }

  Record container_opened(FileNumber /*file*/, Pid client) override {
    EXPECT_EQ(client, Pid{::getpid()});
    if (full)
      return 0;
    containers[++last_];
    return last_;
  }
  void iommu_set(Record container, std::uint32_t type) override {
    EXPECT_TRUE(containers.contains(container));
    containers[container].type = type;
  }
  void container_gone(Record container) override {
    EXPECT_TRUE(containers[container].mappings.empty()) << "gone with its mappings";
    for (const auto &[record, group] : groups)
      EXPECT_NE(group.container, container) << "gone with a group";
    EXPECT_EQ(containers.erase(container), 1U);
  }

  Record group_opened(FileNumber /*file*/, GroupId group, Pid /*client*/) override {
    if (full)
      return 0;
    groups[++last_].id = group;
    return last_;
  }
  void group_moved(Record group, Record container) override {
    EXPECT_TRUE(groups.contains(group));
    EXPECT_TRUE(container == 0 || containers.contains(container));
    groups[group].container = container;
  }
  void group_gone(Record group) override {
    EXPECT_EQ(groups[group].container, 0U) << "gone with its container";
    EXPECT_TRUE(groups[group].devices.empty()) << "gone with a device";
    EXPECT_EQ(groups.erase(group), 1U);
  }

  Record device_opened(Record group, std::string_view name) override {
    EXPECT_TRUE(groups.contains(group));
    if (full)
      return 0;
    groups[group].devices.emplace(++last_, name);
    return last_;
  }
  void device_gone(Record device) override {
    std::size_t found = 0;
    for (auto &[record, group] : groups)
      found += group.devices.erase(device);
    EXPECT_EQ(found, 1U);
  }

  Record mapped(Record container, const MappingEntry &entry) override {
    EXPECT_TRUE(containers.contains(container));
    if (full)
      return 0;
    containers[container].mappings.emplace(++last_, entry);
    return last_;
  }
  void vaddr_changed(Record container, Record mapping, std::optional<ClientAddr> vaddr) override {
    EXPECT_TRUE(containers[container].mappings.contains(mapping));
    containers[container].mappings[mapping].vaddr = vaddr.value_or(ClientAddr{0});
  }
  void unmapped(Record container, Record mapping) override {
    EXPECT_EQ(containers[container].mappings.erase(mapping), 1U);
  }

private:
  Record last_ = 0;
};

/// Before the machine in a fixture: containers write in the books to their end.
struct WithBooks {
  Books books;
};

class Bookkeeping : protected WithBooks, public MachineTest {
protected:
  Bookkeeping() : MachineTest(&books) {}

  const Books::ContainerRecord &the_container() { return books.containers.begin()->second; }
  const Books::GroupRecord &the_group() { return books.groups.begin()->second; }
};

TEST_F(Bookkeeping, FollowsAContainer) {
  ContainerFile container = program.open_container();
  EXPECT_EQ(books.containers.size(), 1U);
  container.close();
  EXPECT_TRUE(books.containers.empty());
}

TEST_F(Bookkeeping, FollowsAGroup) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(first_group);
  EXPECT_EQ(the_group().id, first_group);
  EXPECT_EQ(the_group().container, 0U);
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_NE(the_group().container, 0U);
  ASSERT_EQ(group.unset_container(), succeeds);
  EXPECT_EQ(the_group().container, 0U);
  group.close();
  EXPECT_TRUE(books.groups.empty());
}

TEST_F(Bookkeeping, DoesNotMoveAGroupThatCannotJoin) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(first_group);
  machine.fail_next("claim", EPERM);
  ASSERT_EQ(group.set_container(container), fails(EPERM));
  EXPECT_EQ(the_group().container, 0U);
}

TEST_F(Bookkeeping, FollowsTheIommu) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(first_group);
  ASSERT_EQ(group.set_container(container), succeeds);
  EXPECT_EQ(the_container().type, 0U);
  machine.fail_next("attach_claimed", EIO);
  ASSERT_EQ(container.set_iommu(), fails(EIO));
  EXPECT_EQ(the_container().type, 0U);
  ASSERT_EQ(container.set_iommu(), succeeds);
  EXPECT_EQ(the_container().type, static_cast<std::uint32_t>(VFIO_TYPE1v2_IOMMU));
  ASSERT_EQ(group.unset_container(), succeeds);
  EXPECT_EQ(the_container().type, 0U);
}

TEST_F(Bookkeeping, FollowsMappings) {
  ContainerFile container = program.open_container();
  const GroupFile group = program.open_group_in(first_group, container);
  ASSERT_EQ(container.map(Iova{0x3000}, some_memory, Bytes{0x2000}, VFIO_DMA_MAP_FLAG_READ),
            succeeds);
  ASSERT_EQ(books.mappings(), 1U);
  const MappingEntry &entry = the_container().mappings.begin()->second;
  EXPECT_EQ(entry.iova, Iova{0x3000});
  EXPECT_EQ(entry.vaddr, some_memory);
  EXPECT_EQ(entry.size, Bytes{0x2000});
  EXPECT_EQ(entry.access, (Access{.read = true, .write = false}));

  ASSERT_EQ(container.map(Iova{0x8000}, some_memory, page), succeeds);
  ASSERT_EQ(container.unmap(Iova{0x3000}, Bytes{0x2000}), answers(0x2000));
  ASSERT_EQ(books.mappings(), 1U);
  EXPECT_EQ(the_container().mappings.begin()->second.iova, Iova{0x8000});
}

TEST_F(Bookkeeping, FollowsAMappingsVaddr) {
  ContainerFile container = program.open_container();
  const GroupFile group = program.open_group_in(first_group, container);
  ASSERT_EQ(container.map(Iova{0x3000}, some_memory, page), succeeds);
  ASSERT_EQ(container.unmap(Iova{0x3000}, page, VFIO_DMA_UNMAP_FLAG_VADDR), answers(0x1000));
  EXPECT_EQ(the_container().mappings.begin()->second.vaddr, ClientAddr{0});
  ASSERT_EQ(container.map(Iova{0x3000}, ClientAddr{0x5000}, page, VFIO_DMA_MAP_FLAG_VADDR),
            succeeds);
  EXPECT_EQ(the_container().mappings.begin()->second.vaddr, ClientAddr{0x5000});
}

TEST_F(Bookkeeping, KnowsNothingOfWhatFailed) {
  ContainerFile container = program.open_container();
  const GroupFile group = program.open_group_in(first_group, container);
  machine.fail_next("map", ENOMEM);
  ASSERT_EQ(container.map(Iova{0x3000}, some_memory, page), fails(ENOMEM));
  EXPECT_EQ(books.mappings(), 0U);
  ASSERT_EQ(container.map(Iova{0x3000}, some_memory, page), succeeds);
  machine.fail_next("unmap", EIO);
  ASSERT_EQ(container.unmap_all(), fails(EIO));
  EXPECT_EQ(books.mappings(), 1U);
}

// --- full books

TEST_F(Bookkeeping, WithoutRoomNothingIsOpened) {
  books.full = true;
  EXPECT_EQ(answer_of(Container::open({.make_backend = machine.factory(), .ledger = &books},
                                      FileNumber{1}, Pid{::getpid()})),
            fails(ENOMEM));
  EXPECT_EQ(
      answer_of(Group::open(first_group, program.roots(), &books, FileNumber{1}, Pid{::getpid()})),
      fails(ENOMEM));
  books.full = false;
  EXPECT_TRUE(Container::open({.make_backend = machine.factory(), .ledger = &books}, FileNumber{1},
                              Pid{::getpid()}));
  EXPECT_TRUE(Group::open(first_group, program.roots(), &books, FileNumber{1}, Pid{::getpid()}));
}

TEST_F(Bookkeeping, WhatHasNoRoomIsNotMapped) {
  ContainerFile container = program.open_container();
  const GroupFile group = program.open_group_in(first_group, container);
  ASSERT_EQ(container.map(Iova{0x3000}, some_memory, page), succeeds);
  const auto available = container.info().available;
  books.full = true;
  EXPECT_EQ(container.map(Iova{0x8000}, some_memory, page), fails(ENOMEM));
  EXPECT_EQ(machine.mapped(), (std::vector{IovaRange{Iova{0x3000}, Iova{0x3fff}}}));
  EXPECT_EQ(container.info().available, available);
  EXPECT_EQ(container.unmap(Iova{0x8000}, page), answers(0));
  books.full = false;
  EXPECT_EQ(container.map(Iova{0x8000}, some_memory, page), succeeds);
}

TEST_F(Bookkeeping, ADeviceThatHasNoRoomIsNotGiven) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group_in(first_group, container);
  books.full = true;
  EXPECT_EQ(group.device_number(first_device), fails(ENOMEM));
  EXPECT_FALSE(group.group().device_open());
  books.full = false;
  EXPECT_TRUE(group.device(first_device));
  EXPECT_EQ(books.devices(), 1U);
}

TEST_F(Bookkeeping, EndsTheMappingsWithTheLastGroup) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group_in(first_group, container);
  ASSERT_EQ(container.map(Iova{0x3000}, some_memory, page), succeeds);
  ASSERT_EQ(container.map(Iova{0x8000}, some_memory, page), succeeds);
  group.close();
  EXPECT_EQ(books.mappings(), 0U);
}

TEST_F(Bookkeeping, FollowsADevice) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group_in(first_group, container);
  {
    const Fd device = group.device(first_device);
    ASSERT_EQ(books.devices(), 1U);
    EXPECT_EQ(the_group().devices.begin()->second, first_device);
  }
  machine.close_at_client(first_device);
  EXPECT_FALSE(group.group().device_open());
  EXPECT_EQ(books.devices(), 0U) << "noticed when asked";
}

TEST_F(Bookkeeping, KnowsADeviceOnceHoweverOftenItIsOpen) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group_in(first_group, container);
  const Fd device = group.device(first_device);
  const Fd again = group.device(first_device);
  EXPECT_EQ(books.devices(), 1U);
}

TEST_F(Bookkeeping, ForgetsOneDeviceOfAGroupWhileAnotherIsOpen) {
  ContainerFile container = program.open_container();
  GroupFile group = program.open_group_in(pair_group, container);
  const Fd kept = group.device(pair_device_b);
  { const Fd closed = group.device(pair_device_a); }
  machine.close_at_client(pair_device_a);
  EXPECT_TRUE(group.group().device_open());
  EXPECT_EQ(books.devices(), 1U);
}

TEST_F(Bookkeeping, IsEmptyInTheEndWhateverIsClosedFirst) {
  {
    ContainerFile container = program.open_container();
    const GroupFile one = program.open_group_in(first_group, container);
    GroupFile other = program.open_group(second_group);
    ASSERT_EQ(other.set_container(container), succeeds);
    ASSERT_EQ(container.map(Iova{0x3000}, some_memory, page), succeeds);
    const Fd device = other.device(second_device);
    container.close();
  }
  EXPECT_TRUE(books.containers.empty());
  EXPECT_TRUE(books.groups.empty());
}

} // namespace
} // namespace vfio_shim::test
