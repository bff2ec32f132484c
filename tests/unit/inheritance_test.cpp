// SPDX-License-Identifier: MIT
// What a worker that has died has left, and what the next one makes of it.

#include "observe/ledger_reader.hpp"
#include "observe/shared_ledger.hpp"

#include "vfio_shim/own_process.hpp"

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <linux/vfio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keeper/message.hpp"
#include "support/answer.hpp"
#include "support/ledger_place.hpp"
#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

using observe::Inheritance;
using observe::LedgerCapacity;
using observe::SharedLedger;

constexpr Bytes page{0x1000};
constexpr Access both{.read = true, .write = true};

MapRequest page_at(std::uint64_t iova) {
  return {
      .iova = Iova{iova}, .vaddr = ClientAddr{iova + 0x7f0000000000}, .size = page, .access = both};
}

MappingEntry entry_of(const MapRequest &request) {
  return {
      .iova = request.iova, .vaddr = request.vaddr, .size = request.size, .access = request.access};
}

IovaRange range_of(const MapRequest &first, const MapRequest &last) {
  return {first.iova, Iova{last.iova.value + last.size.value - 1}};
}

BackendState::Device device_of(const char *name, FileStore::Number file) {
  BackendState::Device device;
  device.name = name;
  device.file = file;
  return device;
}

BackendState::Group group_with(std::vector<BackendState::Device> devices) {
  BackendState::Group group;
  group.id = GroupId{5};
  group.domain = 3;
  group.devices = std::move(devices);
  return group;
}

observe::layout::Call some_call() {
  observe::layout::Call call{};
  call.file = 1;
  return call;
}

// --- the ledger

class InheritedLedger : public testing::Test {
protected:
  /// Has a worker write, and die.
  void write(const std::function<void(SharedLedger &)> &life, LedgerCapacity capacity = {}) {
    const pid_t worker = ::fork();
    if (worker == 0) {
      auto made = SharedLedger::create("vfio", capacity, place.directory());
      if (!made)
        ::_exit(1);
      life(**made);
      ::_exit(0); // No destructor runs.
    }
    int status = 0;
    ::waitpid(worker, &status, 0);
    ASSERT_EQ(status, 0);
  }

  Inheritance inherit() {
    Inheritance inheritance;
    auto adopted = SharedLedger::adopt("vfio", inheritance, place.directory());
    EXPECT_EQ(answer_of(adopted), succeeds);
    ledger = std::move(*adopted);
    return inheritance;
  }

  LedgerPlace place;
  std::unique_ptr<SharedLedger> ledger;
};

TEST_F(InheritedLedger, HasContainersWithTheirMappingsAndGroups) {
  write([](SharedLedger &books) {
    const auto container = books.container_opened(books.next_file(), Pid{::getpid()});
    books.container_of(container, 1000, 4);
    const auto group = books.group_opened(books.next_file(), GroupId{5}, Pid{::getpid()});
    books.group_of(group, 6);
    books.container_backed(container, 77, 2);
    books.group_backed(group, group_with({device_of("0000:00:06.0", 78)}));
    books.group_moved(group, container);
    books.iommu_set(container, VFIO_TYPE1v2_IOMMU);
    books.dirty_tracked(container, true);
    const auto first = books.mapped(container, entry_of(page_at(0x1000)));
    books.mapped(container, entry_of(page_at(0x2000)));
    books.all_dirty(first, true);
    const auto device = books.device_opened(group, "0000:00:06.0");
    books.device_given(device, Pid{321}, ClientFd{7});
  });
  const Inheritance left = inherit();
  ASSERT_EQ(left.containers.size(), 1u);
  const ContainerState &container = left.containers[0];
  EXPECT_EQ(container.user, 1000u);
  EXPECT_EQ(container.opening, 4u);
  EXPECT_EQ(container.iommu_type, static_cast<std::uint32_t>(VFIO_TYPE1v2_IOMMU));
  EXPECT_TRUE(container.tracking_dirty);
  EXPECT_FALSE(container.closed);
  ASSERT_EQ(container.mappings.size(), 2u);
  EXPECT_TRUE(container.mappings[0].all_dirty);
  EXPECT_FALSE(container.mappings[1].all_dirty);
  ASSERT_EQ(container.backend.groups.size(), 1u);
  EXPECT_EQ(container.backend.file, 77u);
  EXPECT_EQ(container.backend.groups[0].domain, 3u);
  ASSERT_EQ(container.backend.groups[0].devices.size(), 1u);
  EXPECT_EQ(container.backend.groups[0].devices[0].file, 78u);
  ASSERT_EQ(left.groups.size(), 1u);
  EXPECT_EQ(left.groups[0].container, container.file);
  ASSERT_EQ(left.groups[0].devices.size(), 1u);
  ASSERT_EQ(left.groups[0].devices[0].holders.size(), 1u);
  EXPECT_EQ(left.groups[0].devices[0].holders[0].number, ClientFd{7});
}

/// Makes the ledger one of version 4: containers did not know yet what they stand for.
void make_it_old(const std::filesystem::path &directory) {
  namespace layout = observe::layout;
  std::fstream file(directory / layout::file_name("vfio"),
                    std::ios::in | std::ios::out | std::ios::binary);
  std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  auto &header = *reinterpret_cast<layout::Header *>(bytes.data());
  const std::uint32_t today = header.containers.record_size;
  header.version = 4;
  header.containers.record_size = today - sizeof(layout::Container::stands_for);
  for (std::uint32_t record = 0; record < header.containers.used; ++record)
    std::memmove(
        &bytes[header.containers.offset + std::uint64_t{record} * header.containers.record_size],
        &bytes[header.containers.offset + std::uint64_t{record} * today],
        header.containers.record_size);
  file.seekp(0);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

TEST_F(InheritedLedger, MayBeOfAnOlderVersion) {
  LedgerCapacity small{.containers = 64,
                       .groups = 64,
                       .devices = 64,
                       .mappings = 4096,
                       .bindings = 64,
                       .calls = 64,
                       .areas = 64,
                       .residents = 64};
  write(
      [](SharedLedger &books) {
        for (std::uint32_t user = 0; user < 3; ++user) {
          const auto container = books.container_opened(books.next_file(), Pid{::getpid()});
          books.container_of(container, 1000 + user, 4);
          books.mapped(container, entry_of(page_at(0x1000 * (user + 1))));
        }
        books.statistics();
      },
      small);
  make_it_old(place.directory());
  {
    const auto reader = observe::LedgerReader::open("vfio", place.directory());
    ASSERT_EQ(answer_of(reader), succeeds);
    const auto before = reader->snapshot(observe::LedgerReader::Mappings::listed);
    ASSERT_EQ(before.containers.size(), 3u) << "it can be read as it is";
    EXPECT_EQ(before.containers[2].mapping_list.size(), 1u);
  }
  const Inheritance left = inherit();
  ASSERT_EQ(left.containers.size(), 3u);
  for (std::uint32_t user = 0; user < 3; ++user) {
    const ContainerState &container = left.containers[user];
    EXPECT_EQ(container.user, 1000 + user);
    EXPECT_EQ(container.stands_for, FileNumber{0});
    ASSERT_EQ(container.mappings.size(), 1u);
    EXPECT_EQ(container.mappings[0].entry.iova, Iova{0x1000 * (user + 1)});
  }
  const auto another = ledger->container_opened(ledger->next_file(), Pid{::getpid()});
  EXPECT_EQ(another, 4u);
  const auto reader = observe::LedgerReader::open("vfio", place.directory());
  ASSERT_EQ(answer_of(reader), succeeds);
  EXPECT_EQ(reader->snapshot().containers.size(), 4u);
  EXPECT_FALSE(std::filesystem::exists(place.directory() / "vfio.ledger.new"));
}

TEST_F(InheritedLedger, OfANewerVersionIsRefused) {
  write([](SharedLedger & /*books*/) {});
  {
    std::fstream file(place.directory() / observe::layout::file_name("vfio"),
                      std::ios::in | std::ios::out | std::ios::binary);
    const std::uint32_t newer = observe::layout::version + 1;
    file.seekp(offsetof(observe::layout::Header, version));
    file.write(reinterpret_cast<const char *>(&newer), sizeof(newer));
  }
  Inheritance inheritance;
  EXPECT_EQ(answer_of(SharedLedger::adopt("vfio", inheritance, place.directory())), fails(EPROTO));
}

TEST_F(InheritedLedger, HasTheDevicesOfAGroupAsTheyWereLast) {
  write([](SharedLedger &books) {
    const auto container = books.container_opened(books.next_file(), Pid{::getpid()});
    const auto group = books.group_opened(books.next_file(), GroupId{5}, Pid{::getpid()});
    books.group_moved(group, container);
    books.group_backed(group, group_with({device_of("a", 1)}));
    books.group_backed(group, group_with({device_of("b", 2), device_of("c", 3)}));
  });
  const Inheritance left = inherit();
  ASSERT_EQ(left.containers.size(), 1u);
  const auto &devices = left.containers[0].backend.groups.at(0).devices;
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].name, "b");
  EXPECT_EQ(devices[1].name, "c");
}

TEST_F(InheritedLedger, GivesNoNumberAndNoPlaceTwice) {
  write([](SharedLedger &books) {
    const auto container = books.container_opened(books.next_file(), Pid{::getpid()});
    books.unmapped(container, books.mapped(container, entry_of(page_at(0x1000))));
    books.mapped(container, entry_of(page_at(0x2000)));
    books.call_begins(some_call());
  });
  const Inheritance left = inherit();
  ASSERT_EQ(left.calls.size(), 1u);
  EXPECT_EQ(ledger->next_file(), FileNumber{2});
  const auto next = ledger->mapped(left.containers[0].record, entry_of(page_at(0x3000)));
  EXPECT_NE(next, left.containers[0].mappings.at(0).record);
  EXPECT_NE(ledger->call_begins(some_call()).first, left.calls[0].record);
  const auto reader = observe::LedgerReader::open("vfio", place.directory());
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->snapshot().containers.at(0).mappings, 2u);
  EXPECT_EQ(reader->daemon().replaced, 1u);
}

TEST_F(InheritedLedger, IsRefusedIfThereIsNone) {
  Inheritance inheritance;
  EXPECT_EQ(answer_of(SharedLedger::adopt("vfio", inheritance, place.directory())), fails(ENOENT));
}

// --- containers

class InheritedContainer : public testing::Test {
protected:
  InheritedContainer() { machine.add_group(first_group, {first_device}); }

  /// @param noted What the ledger says, and @param there what the kernel has.
  std::shared_ptr<Container> adopt(const std::vector<MapRequest> &noted,
                                   const std::vector<MapRequest> &there) {
    ContainerState state;
    state.record = 1;
    state.file = FileNumber{1};
    state.iommu_type = VFIO_TYPE1v2_IOMMU;
    for (const MapRequest &request : noted)
      state.mappings.push_back({.record = 1, .entry = entry_of(request)});
    GroupState group;
    group.record = 1;
    group.file = FileNumber{2};
    group.id = first_group;
    group.container = state.file;
    auto adopted = Container::adopt(
        {.make_backend = machine.factory(),
         .adopt_backend =
             [&](const BackendState & /*state*/, const BackendTerms & /*terms*/) {
               auto backend = machine.factory()();
               EXPECT_EQ(answer_of((*backend)->claim(
                             topology::find(first_group, machine.sysfs.roots()).value())),
                         succeeds);
               EXPECT_EQ(answer_of((*backend)->attach_claimed()), succeeds);
               for (const MapRequest &request : there)
                 EXPECT_EQ(answer_of((*backend)->map(client, request)), succeeds);
               return backend;
             }},
        state, {group});
    EXPECT_EQ(answer_of(adopted), succeeds);
    return *adopted;
  }

  FakeMachine machine;
  OwnProcess client{[](const Fd & /*file*/) { return nullptr; }};
};

const MapRequest one = page_at(0x10000);
const MapRequest other = page_at(0x11000);

TEST_F(InheritedContainer, UnmapsWhatWasMappedAndNotNoted) {
  const auto container = adopt({one}, {one, other});
  const Outcome outcome = container->settle({.kind = Intention::Kind::map,
                                             .range = range_of(other, other),
                                             .vaddr = other.vaddr,
                                             .size = {}});
  EXPECT_FALSE(outcome.carried_out);
  EXPECT_EQ(machine.mapped(), std::vector{range_of(one, one)});
}

TEST_F(InheritedContainer, KeepsWhatWasMappedAndNoted) {
  const auto container = adopt({one, other}, {one, other});
  const Outcome outcome = container->settle({.kind = Intention::Kind::map,
                                             .range = range_of(other, other),
                                             .vaddr = other.vaddr,
                                             .size = {}});
  EXPECT_TRUE(outcome.carried_out);
  EXPECT_EQ(machine.mapped().size(), 2u);
}

TEST_F(InheritedContainer, FinishesAnUnmapThatHadBegun) {
  const auto container = adopt({one, other}, {other});
  const Intention unmap{.kind = Intention::Kind::unmap,
                        .range = range_of(one, other),
                        .vaddr = {},
                        .size = Bytes{2 * page.value}};
  const Outcome outcome = container->settle(unmap);
  EXPECT_TRUE(outcome.carried_out);
  EXPECT_EQ(outcome.size, unmap.size);
  EXPECT_EQ(machine.mapped(), std::vector<IovaRange>{});
  EXPECT_TRUE(container->settle(unmap).carried_out) << "whoever settles it once more finds it done";
}

TEST_F(InheritedContainer, DoesNothingForACallThatHadNotBegun) {
  const auto container = adopt({one}, {one});
  EXPECT_FALSE(container->settle({}).carried_out);
  EXPECT_EQ(machine.mapped().size(), 1u);
}

// --- messages to the keeper

TEST(KeeperMessage, BringsItsLinesAndItsFile) {
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()), 0);
  const Fd worker{pair[0]}, keeper{pair[1]};
  EXPECT_EQ(answer_of(keeper::receive(keeper)), fails(EAGAIN));
  ASSERT_EQ(answer_of(keeper::send(worker, "FDSTORE=1\nFDNAME=12", STDIN_FILENO)), succeeds);
  const auto message = keeper::receive(keeper);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->value_of("FDSTORE"), "1");
  EXPECT_EQ(message->value_of("FDNAME"), "12");
  EXPECT_EQ(message->value_of("FD"), "") << "another line";
  EXPECT_TRUE(message->file);
}

TEST(KeeperMessage, IsTheLastWhenTheWorkerHasDied) {
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()), 0);
  Fd worker{pair[0]};
  const Fd keeper{pair[1]};
  ASSERT_EQ(answer_of(keeper::send(worker, "READY=1")), succeeds);
  worker.reset();
  EXPECT_TRUE(keeper::receive(keeper)) << "what was sent before arrives";
  EXPECT_EQ(answer_of(keeper::receive(keeper)), fails(EPIPE));
}

} // namespace
} // namespace vfio_shim::test
