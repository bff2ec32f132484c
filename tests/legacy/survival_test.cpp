// SPDX-License-Identifier: MIT
// The daemon's worker is killed, or replaced by that of another version, under running clients.
// They see a pause, and nothing else: calls under way are answered once, and nothing is forgotten.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "child.h"
#include "daemon.h"
#include "missing_page.h"
#include "moment.h"
#include "own_state.h"
#include "patience.h"
#include "storm.h"
#include "stuck_call.h"
#include "suite.h"
#include "surviving_daemon.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

constexpr long viable = VFIO_GROUP_FLAGS_VIABLE;
constexpr long in_a_container = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
constexpr std::uint32_t seed = 29;
/// How much private memory clients have.
constexpr Bytes own_size = page * 64;

/// How often the worker dies in a storm, in each kind of call, and how often it is upgraded.
const auto [kills_in_a_storm, kills_in_a_call, upgrades] = [] {
  const auto number = [](const char *variable, int otherwise) {
    const char *const text = std::getenv(variable);
    return text != nullptr ? std::stoi(text) : otherwise;
  };
  return std::array{number("VFIO_SHIM_TEST_KILLS", 25), number("VFIO_SHIM_TEST_KILLS_IN_A_CALL", 3),
                    number("VFIO_SHIM_TEST_UPGRADES", 10)};
}();

/// A pause is to be no longer than this on a quiet machine. It is printed, not demanded.
constexpr std::chrono::milliseconds pause_goal = 500ms;
/// Longer than this on no machine.
constexpr std::chrono::milliseconds pause_limit = 10s;

/// A random time from `from` to `to`.
std::chrono::microseconds between(std::chrono::microseconds from, std::chrono::microseconds to) {
  static std::minstd_rand random{std::random_device{}()};
  std::uniform_int_distribution<std::chrono::microseconds::rep> spread{from.count(), to.count()};
  return std::chrono::microseconds{spread(random)};
}

/// The providers under test whose daemon has a keeper.
std::vector<Provider> survivors() {
  return shims_under_test();
}

class SurvivalSuite : public LegacySuite {
protected:
  void TearDown() override { EXPECT_TRUE(has_nothing_open(provider())); }
};

#define SURVIVAL_SUITE(Name, Base)                                                                 \
  class Name : public Base {};                                                                     \
  GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Name);                                             \
  INSTANTIATE_TEST_SUITE_P(, Name, testing::ValuesIn(survivors()),                                 \
                           [](const auto &info) { return info.param.identifier(); })

std::uint32_t mappings_available(const Container &container) {
  return container.info().dma_available.value_or(0);
}

/// A device in a container that has another one already, and its memory.
struct Peer {
  Peer(const Provider &provider, const Container &container, const PciDevice &target)
      : group{provider, target.group},
        device{join(group, container, target)},
        memory{(device.enable_memory_and_dma(), device.map_region(VFIO_PCI_BAR2_REGION_INDEX))} {}

  Group group;
  Device device;
  MappedRegion memory;

private:
  static Device join(const Group &group, const Container &container, const PciDevice &target) {
    group.set_container(container).or_throw("VFIO_GROUP_SET_CONTAINER");
    return group.device(target.address);
  }
};

/// Memory of a client's that is mapped.
struct Mapped {
  Iova iova;
  std::byte *data;
  Bytes size;
};

bool maps_device_memory(const Provider &provider) {
  return !differs(provider, Behaviour::PeerToPeer);
}

/// A client that has memory of each kind mapped.
class IdleClient : public Client {
public:
  explicit IdleClient(const Provider &provider)
      : Client{provider, topology::lone_edus(1)[0]},
        peer_{provider, container, topology::ivshmem()},
        peer_can_be_mapped_{maps_device_memory(provider)},
        before_{mappings_available(container)} {
    for (const Mapped &each : mapped)
      container.map(each.iova, each.data, each.size).or_throw("VFIO_IOMMU_MAP_DMA");
  }

  Bytes mapped_bytes() const {
    Bytes sum;
    for (const Mapped &each : mapped)
      sum = sum + each.size;
    return sum;
  }
  /// The number of mappings that the container says it has.
  std::size_t count() const { return before_ - mappings_available(container); }

  /// Has the device read private memory and write to the end of everything.
  void expect_dma_reaches_everything(std::uint32_t content) const {
    private_.fill({0}, Edu::largest_transfer, content);
    edu_.fetch(mapped.front().iova, Edu::largest_transfer);
    for (const Mapped &each : mapped) {
      std::byte *const end = each.data + (each.size - page).count;
      std::memset(end, 0, page.count);
      edu_.store(each.iova + each.size - page, Edu::largest_transfer);
      EXPECT_EQ(std::memcmp(end, private_.data(), Edu::largest_transfer.count), 0) << each.iova;
    }
  }

private:
  Peer peer_;
  const bool peer_can_be_mapped_;
  const Memory private_{own_size};
  const Memory shared_ = Memory::allocate(MemoryKind::MemfdShared, 1_MiB);
  const Memory huge_ = Memory::allocate(MemoryKind::HugetlbShared, huge_page);
  const Memory private_huge_ = Memory::allocate(MemoryKind::HugetlbAnonymous, huge_page);
  const Edu edu_{device};
  std::uint32_t before_;

public:
  const std::vector<Mapped> mapped = memory_of_each_kind();

private:
  std::vector<Mapped> memory_of_each_kind() const {
    std::vector<Mapped> all{{some_iova, private_.data(), private_.size()},
                            {some_iova + 8_MiB, shared_.data(), shared_.size()},
                            {some_iova + 16_MiB, huge_.data(), huge_.size()},
                            {some_iova + 24_MiB, private_huge_.data(), private_huge_.size()}};
    if (peer_can_be_mapped_)
      all.push_back({some_iova + 32_MiB, peer_.memory.data(), peer_.memory.size()});
    return all;
  }
};

// --- between calls

SURVIVAL_SUITE(SurvivalIdle, SurvivalSuite);

TEST_P(SurvivalIdle, DmaGoesOnThroughWhatIsMapped) {
  const IdleClient client{provider()};
  SurvivingDaemon daemon{provider()};
  client.expect_dma_reaches_everything(seed);
  ASSERT_TRUE(daemon.replace_worker());
  client.expect_dma_reaches_everything(seed + 1);
}

TEST_P(SurvivalIdle, NoMappingIsForgotten) {
  const IdleClient client{provider()};
  SurvivingDaemon daemon{provider()};
  for (int death = 0; death < 2; ++death)
    ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(client.count(), client.mapped.size());
  for (const Mapped &each : client.mapped) {
    SCOPED_TRACE(each.iova);
    EXPECT_EQ(client.container.map(each.iova, each.data, each.size), fails(EEXIST));
    EXPECT_EQ(client.container.map(each.iova + page, each.data, page), fails(EEXIST));
    EXPECT_EQ(client.container.unmap(each.iova, page), fails(EINVAL)) << "it cannot be cut";
  }
  EXPECT_EQ(client.count(), client.mapped.size());
}

TEST_P(SurvivalIdle, EachMappingIsUnmappedAndMappedAgain) {
  const IdleClient client{provider()};
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  for (const Mapped &each : client.mapped) {
    SCOPED_TRACE(each.iova);
    EXPECT_EQ(client.container.unmap(each.iova, each.size), unmaps(each.size));
    EXPECT_EQ(client.container.unmap(each.iova, each.size), unmaps({0}));
  }
  EXPECT_EQ(client.count(), 0u);
  EXPECT_TRUE(nothing_is_pinned());
  for (const Mapped &each : client.mapped)
    EXPECT_EQ(client.container.map(each.iova, each.data, each.size), succeeds) << each.iova;
  EXPECT_EQ(client.count(), client.mapped.size());
  client.expect_dma_reaches_everything(seed);
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(client.container.unmap_all(), unmaps(client.mapped_bytes()));
}

TEST_P(SurvivalIdle, WhatIsUnmappedAfterwardsIsOutOfTheDevicesReach) {
  const Client client{provider(), topology::lone_edus(1)[0]};
  const Edu edu{client.device};
  const Memory memory{page};
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  ASSERT_EQ(client.container.unmap(some_iova, page), unmaps(page));
  memory.fill({0}, page, seed);
  edu.store(some_iova, Edu::largest_transfer);
  EXPECT_TRUE(memory.holds({0}, page, seed));
}

TEST_P(SurvivalIdle, EveryCallAnswersAsBefore) {
  const IdleClient client{provider()};
  const PciDevice edu = topology::lone_edus(1)[0];
  const IommuInfo before = client.container.info();
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());

  EXPECT_EQ(client.container.api_version(), answers(VFIO_API_VERSION));
  EXPECT_EQ(client.container.check_extension(VFIO_TYPE1v2_IOMMU), answers(1));
  EXPECT_EQ(client.container.set_iommu(IommuType::Type1v2), fails(EINVAL)) << "it is set";
  const IommuInfo now = client.container.info();
  EXPECT_EQ(now.page_sizes, before.page_sizes);
  EXPECT_EQ(now.iova_ranges, before.iova_ranges);
  EXPECT_EQ(now.dma_available, before.dma_available);

  EXPECT_EQ(client.group.status(), answers(in_a_container));
  EXPECT_EQ(client.group.set_container(client.container), fails(EINVAL)) << "it is in one";
  EXPECT_EQ(client.group.unset_container(), fails(EBUSY)) << "its device is open";
  EXPECT_EQ(Group::try_open(provider(), edu.group), fails(EBUSY)) << "it is open";

  const Device again = client.group.device(edu.address);
  EXPECT_NE(again.fd().number(), client.device.fd().number());
  EXPECT_EQ(again.config16(0), client.device.config16(0));
  EXPECT_EQ(again.info().num_regions, client.device.info().num_regions);
}

TEST_P(SurvivalIdle, ClosingEverythingLeavesNothing) {
  run_in_child([&] {
    const OwnState before = OwnState::now();
    for (int life = 0; life < 2; ++life) {
      const IdleClient client{provider()};
      EXPECT_TRUE(SurvivingDaemon{provider()}.replace_worker());
    }
    EXPECT_TRUE(is_as_before_any_map(before)) << "or each life leaves something";
    EXPECT_TRUE(nothing_is_pinned());
    EXPECT_EQ(Group::try_open(provider(), topology::lone_edus(1)[0].group), succeeds);
    EXPECT_EQ(Group::try_open(provider(), topology::ivshmem().group), succeeds);
    EXPECT_TRUE(has_nothing_open(provider()));
  });
  const Client next{provider(), topology::lone_edus(1)[0]};
  EXPECT_EQ(next.container.unmap_all(), unmaps({0}));
}

TEST_P(SurvivalIdle, SettingUpGoesOnAfterEachStep) {
  const PciDevice edu = topology::lone_edus(1)[0];
  SurvivingDaemon daemon{provider()};
  const Container container{provider()};
  ASSERT_TRUE(daemon.replace_worker());

  const Group group{provider(), edu.group};
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(group.status(), answers(viable));
  EXPECT_EQ(Group::try_open(provider(), edu.group), fails(EBUSY));

  ASSERT_EQ(group.set_container(container), succeeds);
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(group.status(), answers(in_a_container));
  EXPECT_EQ(group.set_container(container), fails(EINVAL)) << "it is in one";

  ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(container.set_iommu(IommuType::Type1v2), fails(EINVAL)) << "it is set";

  expect_dma_works(container, Edu{group.device(edu.address)});
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(group.unset_container(), succeeds) << "its device is closed";
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(group.status(), answers(viable));
}

TEST_P(SurvivalIdle, AContainerKeepsItsType) {
  const Client client{provider(), topology::lone_edus(1)[0], IommuType::Type1};
  const Memory memory{page * 4};
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(client.container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), fails(EACCES));
  EXPECT_EQ(client.container.unmap(some_iova + page, page), unmaps({0})) << "a part of it";
  EXPECT_EQ(client.container.unmap(some_iova, page), unmaps(memory.size())) << "its first page";
}

// --- in the midst of a call

/// What a client does, with the one call in which the worker dies.
using Life = std::function<void(const Moment &)>;

/// A process of its own, with one thread, that lives such a life and looks what is left.
class MidCallClient {
public:
  explicit MidCallClient(const Life &life)
      : child_{[&] {
          const OwnState before = OwnState::now();
          life(moment);
          EXPECT_TRUE(is_as_before_any_map(before));
          EXPECT_TRUE(nothing_is_pinned());
        }} {}
  ~MidCallClient() { EXPECT_TRUE(child_.wait()); }

  const Moment moment;

private:
  Child child_;
};

class SurvivalMidCallSuite : public SurvivalSuite {
protected:
  const PciDevice edu_ = topology::lone_edus(1)[0];
  const Memory shared_ = Memory::allocate(MemoryKind::MemfdShared, 1_MiB);

  /// Kills the worker at random moments from just before the client's call to about its end, in one
  /// life after the other. First the client lives without.
  void kill_during(const Life &life) {
    const auto duration = std::min(undisturbed(life), undisturbed(life));
    SurvivingDaemon daemon{provider()};
    int hits = 0;
    constexpr int patience = 20; // A short call is not hit at once.
    for (int round = 0;
         (round < kills_in_a_call || (hits == 0 && round < patience)) && !HasFailure(); ++round) {
      const int part = round % kills_in_a_call;
      const auto delay =
          between(duration * part / kills_in_a_call, duration * (part + 1) / kills_in_a_call);
      SCOPED_TRACE(testing::Message() << "killed after " << delay.count()
                                      << " us of a call of some " << duration.count() << " us");
      hits += MidCallClient{life}.moment.kill(daemon, delay);
    }
    EXPECT_GT(hits, 0) << "it never died in the call";
    RecordProperty("kills", kills_in_a_call);
    RecordProperty("kills_before_the_answer", hits);
  }

  Client new_client() const { return {provider(), edu_}; }

  /// Checks that `memory` is mapped, once and whole, and that it can be unmapped as often.
  void expect_mapped_once(const Client &client, const Memory &memory, std::uint32_t before) const {
    const Container &container = client.container;
    EXPECT_EQ(mappings_available(container), before - 1);
    EXPECT_EQ(container.map(some_iova, memory), fails(EEXIST));
    EXPECT_EQ(container.map(some_iova + memory.size() - page, memory.data(), page), fails(EEXIST));
    expect_dma_copies(client, memory);
    EXPECT_EQ(container.unmap(some_iova, memory.size()), unmaps(memory.size()));
    EXPECT_EQ(container.unmap(some_iova, memory.size()), unmaps({0}));
    EXPECT_EQ(mappings_available(container), before);
  }

  static void expect_dma_copies(const Client &client, const Memory &memory) {
    const Bytes end = memory.size() - page;
    memory.fill({0}, Edu::largest_transfer, seed);
    memory.fill(end, Edu::largest_transfer, seed + 1);
    copy_by_dma(Edu{client.device}, some_iova, some_iova + end);
    EXPECT_TRUE(memory.holds(end, Edu::largest_transfer, seed)) << "DMA did not copy the bytes";
  }

  /// Goes on with a container and a group that is not in it.
  void expect_set_up_works(const Container &container, const Group &group) const {
    ASSERT_EQ(group.set_container(container), succeeds);
    ASSERT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
    EXPECT_EQ(group.try_device(edu_.address), succeeds);
    EXPECT_EQ(container.map(some_iova, shared_), succeeds);
    EXPECT_EQ(container.unmap_all(), unmaps(shared_.size()));
    EXPECT_EQ(group.unset_container(), succeeds);
  }

private:
  static std::chrono::microseconds undisturbed(const Life &life) {
    SCOPED_TRACE("with nobody killed");
    return MidCallClient{life}.moment.pass();
  }
};

SURVIVAL_SUITE(SurvivalMidCall, SurvivalMidCallSuite);

TEST_P(SurvivalMidCall, TheFirstMapOfPrivateMemory) {
  kill_during([&](const Moment &moment) {
    const Client client = new_client();
    const Memory own{own_size};
    const std::uint32_t before = mappings_available(client.container);
    const auto map = [&] { return client.container.map(some_iova, own); };
    ASSERT_EQ(moment.during(map), succeeds);
    expect_mapped_once(client, own, before);
  });
}

TEST_P(SurvivalMidCall, ALaterLargeMapOfPrivateMemory) {
  kill_during([&](const Moment &moment) {
    const Client client = new_client();
    const Memory own{own_size};
    const Memory large{page * 2048};
    EXPECT_EQ(client.container.map(some_iova + 64_MiB, own), succeeds);
    const std::uint32_t before = mappings_available(client.container);
    const auto map = [&] { return client.container.map(some_iova, large); };
    ASSERT_EQ(moment.during(map), succeeds);
    expect_mapped_once(client, large, before);
    EXPECT_EQ(client.container.unmap_all(), unmaps(own.size()));
  });
}

TEST_P(SurvivalMidCall, AMapOfAMemfd) {
  kill_during([&](const Moment &moment) {
    const Client client = new_client();
    const std::uint32_t before = mappings_available(client.container);
    const auto map = [&] { return client.container.map(some_iova, shared_); };
    ASSERT_EQ(moment.during(map), succeeds);
    expect_mapped_once(client, shared_, before);
  });
}

TEST_P(SurvivalMidCall, AnUnmap) {
  kill_during([&](const Moment &moment) {
    const Client client = new_client();
    const Memory own{own_size};
    const std::uint32_t before = mappings_available(client.container);
    EXPECT_EQ(client.container.map(some_iova, own), succeeds);
    EXPECT_EQ(client.container.map(some_iova + 8_MiB, shared_), succeeds);
    const auto unmap = [&] { return client.container.unmap(some_iova, own.size()); };
    EXPECT_EQ(moment.during(unmap), unmaps(own.size()));
    EXPECT_EQ(mappings_available(client.container), before - 1);
    EXPECT_EQ(unmap(), unmaps({0}));
    EXPECT_EQ(client.container.map(some_iova, own), succeeds) << "again";
    EXPECT_EQ(client.container.unmap_all(), unmaps(own.size() + shared_.size()));
  });
}

TEST_P(SurvivalMidCall, AnUnmapOfEverything) {
  kill_during([&](const Moment &moment) {
    const Client client = new_client();
    const Memory own{own_size};
    const std::uint32_t before = mappings_available(client.container);
    constexpr std::uint64_t mappings = 16;
    for (std::uint64_t n = 0; n < mappings; ++n)
      EXPECT_EQ(client.container.map(some_iova + 2_MiB * n, n % 2 == 0 ? own : shared_), succeeds);
    const auto unmap_all = [&] { return client.container.unmap_all(); };
    EXPECT_EQ(moment.during(unmap_all), unmaps((own.size() + shared_.size()) * (mappings / 2)));
    EXPECT_EQ(mappings_available(client.container), before);
    EXPECT_EQ(unmap_all(), unmaps({0}));
  });
}

TEST_P(SurvivalMidCall, SetContainer) {
  kill_during([&](const Moment &moment) {
    const Container container{provider()};
    const Group group{provider(), edu_.group};
    const auto set_container = [&] { return group.set_container(container); };
    EXPECT_EQ(moment.during(set_container), succeeds);
    EXPECT_EQ(group.status(), answers(in_a_container));
    EXPECT_EQ(set_container(), fails(EINVAL)) << "it is in one";
    EXPECT_EQ(group.unset_container(), succeeds);
    EXPECT_EQ(group.unset_container(), fails(EINVAL)) << "it is in none";
    expect_set_up_works(container, group);
  });
}

TEST_P(SurvivalMidCall, UnsetContainer) {
  kill_during([&](const Moment &moment) {
    const Container container{provider()};
    const Group group{provider(), edu_.group};
    EXPECT_EQ(group.set_container(container), succeeds);
    EXPECT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
    EXPECT_EQ(moment.during([&] { return group.unset_container(); }), succeeds);
    EXPECT_EQ(group.status(), answers(viable));
    expect_set_up_works(container, group);
  });
}

TEST_P(SurvivalMidCall, SetIommu) {
  kill_during([&](const Moment &moment) {
    const Container container{provider()};
    const Group group{provider(), edu_.group};
    EXPECT_EQ(group.set_container(container), succeeds);
    const auto set_iommu = [&] { return container.set_iommu(IommuType::Type1v2); };
    EXPECT_EQ(moment.during(set_iommu), succeeds);
    EXPECT_EQ(set_iommu(), fails(EINVAL)) << "it is set";
    EXPECT_EQ(group.unset_container(), succeeds);
    expect_set_up_works(container, group);
  });
}

TEST_P(SurvivalMidCall, GetDeviceFd) {
  kill_during([&](const Moment &moment) {
    const Client client = new_client();
    const std::size_t before = OwnState::now().descriptors.size();
    std::optional<Device> device{moment.during([&] { return client.group.device(edu_.address); })};
    EXPECT_EQ(OwnState::now().descriptors.size(), before + 1);
    EXPECT_EQ(device->config16(0), client.device.config16(0));
    EXPECT_EQ(client.group.unset_container(), fails(EBUSY)) << "its device is open";
    device.reset();
    EXPECT_EQ(OwnState::now().descriptors.size(), before);
  });
}

TEST_P(SurvivalMidCall, TheFirstGetDeviceFd) {
  kill_during([&](const Moment &moment) {
    const Container container{provider()};
    const Group group{provider(), edu_.group};
    EXPECT_EQ(group.set_container(container), succeeds);
    EXPECT_EQ(container.set_iommu(IommuType::Type1v2), succeeds);
    const std::size_t before = OwnState::now().descriptors.size();
    std::optional<Device> device{moment.during([&] { return group.device(edu_.address); })};
    EXPECT_EQ(OwnState::now().descriptors.size(), before + 1);
    expect_dma_works(container, Edu{*device});
    device.reset();
    EXPECT_EQ(group.unset_container(), succeeds) << "nobody else has it open";
    expect_set_up_works(container, group);
  });
}

TEST_P(SurvivalMidCall, AnOpenOfAContainer) {
  kill_during([&](const Moment &moment) {
    const std::size_t before = OwnState::now().descriptors.size();
    const Container container = moment.during([&] { return Container{provider()}; });
    EXPECT_EQ(OwnState::now().descriptors.size(), before + 1);
    expect_set_up_works(container, Group{provider(), edu_.group});
  });
}

TEST_P(SurvivalMidCall, AnOpenOfAGroup) {
  kill_during([&](const Moment &moment) {
    const std::size_t before = OwnState::now().descriptors.size();
    std::optional<Group> group{moment.during([&] { return Group{provider(), edu_.group}; })};
    EXPECT_EQ(OwnState::now().descriptors.size(), before + 1);
    EXPECT_EQ(Group::try_open(provider(), edu_.group), fails(EBUSY));
    expect_set_up_works(Container{provider()}, *group);
    group.reset();
    EXPECT_EQ(Group::try_open(provider(), edu_.group), succeeds);
  });
}

TEST_P(SurvivalMidCall, ClosingEverything) {
  kill_during([&](const Moment &moment) {
    Client client = new_client();
    const Memory own{own_size};
    EXPECT_EQ(client.container.map(some_iova, own), succeeds);
    const auto close_and_open = [&] {
      client.device.close();
      client.group.close();
      client.container.close();
      return Group::try_open(provider(), edu_.group);
    };
    EXPECT_EQ(moment.during(close_and_open), succeeds) << "the group is not free at once";
    const Client next = new_client();
    EXPECT_EQ(next.container.unmap_all(), unmaps({0}));
  });
}

/// VFIO_IOMMU_GET_INFO of a container, all but whose struct is written to a page that is missing.
Answer ask_for_info_at_the_edge(const Container &container, const MissingPage &pages) {
  vfio_iommu_type1_info info{};
  info.argsz = sizeof(info) + static_cast<std::uint32_t>(page.count);
  std::byte *const argument = pages.missing() - sizeof(info);
  std::memcpy(argument, &info, sizeof(info));
  return container.fd().ioctl(VFIO_IOMMU_GET_INFO, argument);
}

TEST_P(SurvivalMidCall, ACallThatWaitsForItsClient) {
  for (const StuckIn where : {StuckIn::Argument, StuckIn::Answer, StuckIn::Memory})
    run_in_child([&] {
      if (where == StuckIn::Memory && provider().name != providers::shim)
        return; // The kernel's own containers pin no page that its program provides.
      SCOPED_TRACE(where);
      const Client client = new_client();
      const MissingPage pages;
      std::jthread killer{[&] {
        pages.await_fault();
        EXPECT_TRUE(SurvivingDaemon{provider()}.replace_worker());
        pages.fill();
      }};
      switch (where) {
      case StuckIn::Argument:
        EXPECT_EQ(client.container.fd().ioctl(VFIO_IOMMU_MAP_DMA, pages.missing()), fails(EINVAL))
            << "it is filled with zeros";
        break;
      case StuckIn::Answer:
        EXPECT_EQ(ask_for_info_at_the_edge(client.container, pages), succeeds);
        break;
      case StuckIn::Memory:
        EXPECT_EQ(client.container.map(some_iova, pages.missing(), page), succeeds);
        EXPECT_EQ(client.container.map(some_iova, pages.missing(), page), fails(EEXIST));
        break;
      }
      killer.join();
      EXPECT_EQ(client.container.unmap_all(), unmaps(where == StuckIn::Memory ? page : 0_B));
    });
}

// --- what else a worker must tell the next one

SURVIVAL_SUITE(SurvivalState, SurvivalSuite);

TEST_P(SurvivalState, DirtyTrackingGoesOn) {
  if (differs(Behaviour::DirtyTracking))
    GTEST_SKIP() << "there is none";
  const Client client{provider(), topology::lone_edus(1)[0]};
  const Edu edu{client.device};
  const Memory memory{page * 64};
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  ASSERT_EQ(client.container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), succeeds);
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());

  copy_by_dma(edu, some_iova, some_iova + page * 3);
  std::vector<std::uint64_t> bitmap(2);
  ASSERT_EQ(client.container.dirty_bitmap(some_iova, page * 128, bitmap), succeeds);
  EXPECT_TRUE(bitmap[0] & (1u << 3)) << "the page that was written to";
  EXPECT_EQ(bitmap[1], 0u) << "where nothing is mapped";
  EXPECT_EQ(client.container.unmap_with_dirty_bitmap(some_iova, memory.size(), bitmap),
            unmaps(memory.size()));
}

TEST_P(SurvivalState, DirtyTrackingThatWasStoppedStaysStopped) {
  if (differs(Behaviour::DirtyTracking))
    GTEST_SKIP() << "there is none";
  const Client client{provider(), topology::lone_edus(1)[0]};
  const Memory memory{page};
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  ASSERT_EQ(client.container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), succeeds);
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  ASSERT_EQ(client.container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), succeeds);
  ASSERT_TRUE(daemon.replace_worker());
  std::vector<std::uint64_t> bitmap(1);
  EXPECT_EQ(client.container.dirty_bitmap(some_iova, page, bitmap), fails(EINVAL));
}

TEST_P(SurvivalState, InvalidVaddrsStayInvalid) {
  const auto edus = topology::lone_edus(2);
  const Client client{provider(), edus[0]};
  const Memory memory = Memory::allocate(MemoryKind::MemfdShared, page * 4);
  const Iova valid = some_iova + 1_MiB;
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  ASSERT_EQ(client.container.map(valid, memory), succeeds);
  ASSERT_EQ(client.container.invalidate_vaddr(some_iova, memory.size()), unmaps(memory.size()));
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());

  EXPECT_EQ(client.container.invalidate_vaddr(some_iova, memory.size()), fails(EINVAL));
  EXPECT_EQ(client.container.update_vaddr(valid, memory.data(), memory.size()), fails(EINVAL));
  {
    const Group other{provider(), edus[1].group};
    EXPECT_EQ(other.set_container(client.container), fails(EBUSY)) << "no group joins meanwhile";
  }
  const Memory again{Fd{::dup(memory.file().number())}, memory.size(), PROT_READ | PROT_WRITE,
                     MAP_SHARED};
  ASSERT_EQ(client.container.update_vaddr(some_iova, again.data(), again.size()), succeeds);
  again.fill({0}, page, seed);
  copy_by_dma(Edu{client.device}, some_iova, some_iova + page);
  EXPECT_TRUE(again.holds(page, Edu::largest_transfer, seed));

  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(client.container.update_vaddr(some_iova, again.data(), again.size()), fails(EINVAL))
      << "it is valid";
  EXPECT_EQ(client.container.unmap_all(), unmaps(memory.size() * 2));
}

TEST_P(SurvivalState, AClosedGroupIsFreeWhenItsDeviceIsClosed) {
  const PciDevice edu = topology::lone_edus(1)[0];
  Client client{provider(), edu};
  const Memory memory{page};
  ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
  client.group.close();
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(Group::try_open(provider(), edu.group), fails(EBUSY));
  EXPECT_EQ(client.container.unmap_all(), unmaps(page)) << "the device keeps the group";
  client.device.close();
  EXPECT_EQ(client.container.unmap_all(), fails(EINVAL)) << "there is no IOMMU any more";
  EXPECT_EQ(Group::try_open(provider(), edu.group), succeeds);
}

TEST_P(SurvivalState, ADeviceAloneKeepsTheMappingsUntilItIsClosed) {
  const PciDevice edu = topology::lone_edus(1)[0];
  const HugePageReserve reserve{1};
  const auto free_pages = HugePageReserve::free_pages();
  Client client{provider(), edu};
  SurvivingDaemon daemon{provider()};
  {
    const Memory memory = Memory::allocate(MemoryKind::HugetlbAnonymous, huge_page);
    memory.fill({0}, page, seed);
    ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
    client.container.close();
    client.group.close();
    ASSERT_TRUE(daemon.replace_worker());
    copy_by_dma(Edu{client.device}, some_iova, some_iova + page);
    EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
  }
  EXPECT_EQ(HugePageReserve::free_pages(), free_pages - 1) << "it is not pinned any more";
  EXPECT_EQ(Group::try_open(provider(), edu.group), fails(EBUSY));
  client.device.close();
  EXPECT_EQ(Group::try_open(provider(), edu.group), succeeds);
  EXPECT_TRUE(within(2s, [&] { return HugePageReserve::free_pages() == free_pages; }))
      << "what was mapped stays pinned";
}

/// The client has let its only device go, so nothing is attached when the worker dies.
TEST_P(SurvivalState, ReservedAddressesStayReservedWithoutADevice) {
  Client client{provider(), topology::lone_edus(1)[0]};
  const Memory memory{page};
  const auto usable = client.container.info().iova_ranges;
  ASSERT_GT(usable.size(), 1u);
  client.device.close();
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(client.container.info().iova_ranges, usable);
  EXPECT_EQ(client.container.map(usable[0].last + Bytes{1}, memory), fails(EINVAL));
}

TEST_P(SurvivalState, AForkedChildGoesOnBesideItsParentAndWithoutIt) {
  const PciDevice device = topology::lone_edus(1)[0];
  Client client{provider(), device};
  const Memory parents{page};
  ASSERT_EQ(client.container.map(some_iova, parents), succeeds);
  const Signpost replaced, seen, let_go;
  Child child{[&] {
    const Edu edu{client.device};
    ASSERT_TRUE(replaced.await());
    expect_dma_works(client.container, edu, some_iova + 1_MiB);
    EXPECT_EQ(client.container.unmap(some_iova, page), unmaps(page)) << "its parent's";
    seen.announce();
    ASSERT_TRUE(let_go.await());
    expect_dma_works(client.container, edu);
  }};
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  replaced.announce();
  ASSERT_TRUE(seen.await());
  EXPECT_EQ(client.container.map(some_iova, parents), succeeds);
  EXPECT_EQ(client.container.unmap_all(), unmaps(page));
  client.device.close();
  client.group.close();
  client.container.close();
  ASSERT_TRUE(daemon.replace_worker());
  EXPECT_EQ(Group::try_open(provider(), device.group), fails(EBUSY));
  let_go.announce();
  EXPECT_TRUE(child.wait());
  EXPECT_EQ(Group::try_open(provider(), device.group), succeeds);
}

TEST_P(SurvivalState, AClientThatDiesWithTheWorkerLeavesNothing) {
  const PciDevice device = topology::lone_edus(1)[0];
  const HugePageReserve reserve{1};
  const auto free_pages = HugePageReserve::free_pages();
  SurvivingDaemon daemon{provider()};
  for (int round = 0; round < 3; ++round) {
    const Signpost mapped;
    Child client{[&] {
      const Client client{provider(), device};
      const Memory memory = Memory::allocate(MemoryKind::HugetlbAnonymous, huge_page);
      ASSERT_EQ(client.container.map(some_iova, memory), succeeds);
      mapped.announce();
      std::this_thread::sleep_for(60s);
    }};
    ASSERT_TRUE(mapped.await());
    daemon.kill_worker();
    client.kill_now();
    EXPECT_FALSE(client.wait());
    ASSERT_TRUE(daemon.serves_again());
    EXPECT_TRUE(within(5s, [&] { return Group::try_open(provider(), device.group) == succeeds; }));
    EXPECT_TRUE(within(5s, [&] { return HugePageReserve::free_pages() == free_pages; }))
        << "what it mapped stays pinned";
    const Client next{provider(), device};
    EXPECT_EQ(next.container.unmap_all(), unmaps({0}));
  }
}

// --- under load

/// Two processes that share a container, each with a device of its own in the same group.
class Siblings {
public:
  explicit Siblings(const Provider &provider) : client_{provider, devices_[0]} {}

  void storm_as(std::size_t which, const StormClient::IsOver &is_over) const {
    storm({.container = client_.container,
           .edu = which == 0 ? first_ : second_,
           .start = some_iova + StormPlace::size * which},
          is_over);
  }
  const Container &container() const { return client_.container; }

private:
  const std::vector<PciDevice> devices_ = topology::edus_sharing_a_group();
  const Client client_;
  const Device other_ = client_.group.device(devices_[1].address);
  const Edu first_{client_.device};
  const Edu second_{other_};
};

void storm_alone(const Provider &provider, const PciDevice &device, bool with_peer,
                 const StormClient::IsOver &is_over) {
  const Client client{provider, device};
  const Edu edu{client.device};
  std::optional<Peer> peer;
  if (with_peer)
    peer.emplace(provider, client.container, topology::ivshmem());
  storm({.container = client.container,
         .edu = edu,
         .start = some_iova,
         .peer = peer ? &peer->memory : nullptr},
        is_over);
  EXPECT_EQ(client.container.unmap_all(), unmaps({0}));
}

/// Descriptors of both of the daemon's processes.
std::size_t descriptors_held_by(const SurvivingDaemon &daemon) {
  return descriptors_of(daemon.keeper()) + descriptors_of(daemon.worker());
}

void report(std::vector<std::chrono::milliseconds> pauses) {
  ASSERT_FALSE(pauses.empty());
  std::sort(pauses.begin(), pauses.end());
  const auto median = pauses[pauses.size() / 2], longest = pauses.back();
  std::cout << pauses.size() << " pauses: median " << median.count() << " ms, longest "
            << longest.count() << " ms (the goal is " << pause_goal.count() << " ms)" << std::endl;
  testing::Test::RecordProperty("pauses", static_cast<int>(pauses.size()));
  testing::Test::RecordProperty("pause_median_ms", static_cast<int>(median.count()));
  testing::Test::RecordProperty("pause_longest_ms", static_cast<int>(longest.count()));
  EXPECT_LT(longest, pause_limit);
}

SURVIVAL_SUITE(SurvivalStorm, SurvivalSuite);

TEST_P(SurvivalStorm, FourProcessesSeeNothingButPauses) {
  constexpr std::size_t slack = 8; // What is kept for a while, of clients that have ended.
  const auto edus = topology::lone_edus(2);
  const HugePageReserve reserve{8};
  SurvivingDaemon daemon{provider()};
  ASSERT_TRUE(daemon.replace_worker());
  const std::size_t before = descriptors_held_by(daemon);
  {
    const Siblings siblings{provider()};
    StormClient with_peer{[&](const auto &over) {
      storm_alone(provider(), edus[0], maps_device_memory(provider()), over);
    }};
    StormClient alone{[&](const auto &over) { storm_alone(provider(), edus[1], false, over); }};
    StormClient first{[&](const auto &over) { siblings.storm_as(0, over); }};
    StormClient second{[&](const auto &over) { siblings.storm_as(1, over); }};
    const std::array clients{&with_peer, &alone, &first, &second};
    Heartbeat heartbeat{provider()};
    std::vector<std::chrono::milliseconds> pauses;
    const auto all_live = [&] {
      return std::none_of(clients.begin(), clients.end(), std::mem_fn(&StormClient::has_ended));
    };
    while (std::ssize(pauses) < kills_in_a_storm && all_live()) {
      std::this_thread::sleep_for(between(10ms, 200ms));
      ASSERT_TRUE(daemon.replace_worker());
      pauses.push_back(heartbeat.longest_gap());
    }
    for (StormClient *client : clients)
      EXPECT_TRUE(client->end());
    EXPECT_EQ(siblings.container().unmap_all(), unmaps({0}));
    report(std::move(pauses));
  }
  EXPECT_TRUE(has_nothing_open(provider()));
  EXPECT_TRUE(within(5s, [&] { return descriptors_held_by(daemon) <= before + slack; }))
      << "it had " << before << " descriptors and has " << descriptors_held_by(daemon);
}

/// While it lives, a process storms.
class SurvivalUpgradeSuite : public SurvivalSuite {
protected:
  void SetUp() override {
    client_.emplace([this](const StormClient::IsOver &is_over) {
      storm_alone(provider(), topology::lone_edus(1)[0], false, is_over);
    });
  }
  void TearDown() override {
    EXPECT_TRUE(client_->end());
    SurvivalSuite::TearDown();
  }
  bool storms() const { return !client_->has_ended(); }

private:
  std::optional<StormClient> client_;
};

SURVIVAL_SUITE(SurvivalUpgrade, SurvivalUpgradeSuite);

TEST_P(SurvivalUpgrade, HappensBetweenTwoCalls) {
  SurvivingDaemon daemon{provider()};
  const pid_t keeper = daemon.keeper();
  Heartbeat heartbeat{provider()};
  std::vector<std::chrono::milliseconds> pauses;
  while (std::ssize(pauses) < upgrades && storms()) {
    const pid_t old_worker = daemon.worker();
    std::this_thread::sleep_for(between(10ms, 100ms));
    daemon.ask_for_upgrade();
    ASSERT_TRUE(daemon.serves_again());
    EXPECT_TRUE(within(5s, [&] { return ::kill(old_worker, 0) != 0; })) << "the old one lives on";
    pauses.push_back(heartbeat.longest_gap());
  }
  EXPECT_EQ(daemon.keeper(), keeper);
  report(std::move(pauses));
}

TEST_P(SurvivalUpgrade, HasACommandThatTellsThePause) {
  SurvivingDaemon daemon{provider()};
  const std::string told = daemon.upgrade();
  EXPECT_TRUE(daemon.serves_again());
  EXPECT_NE(told.find_first_of("0123456789"), std::string::npos) << told;
  std::cout << told << std::flush;
}

} // namespace
