// SPDX-License-Identifier: MIT
// `--express`: from VFIO_SET_IOMMU on the client's container is an iommufd, and the client maps by
// itself. What was there before goes on, everything around it works, and it can be undone.

#include "client/provider.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "missing_page.h"
#include "patience.h"
#include "suite.h"
#include "surviving_daemon.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

constexpr std::uint32_t seed = 53;

/// The provider under test that is express, if it is.
std::vector<Provider> express_under_test() {
  std::vector<Provider> express = providers_under_test();
  std::erase_if(express, [](const Provider &p) { return p.name != providers::shim_express; });
  return express;
}

/// What the descriptor is: "/dev/iommu", "/dev/vfio-shim.express/vfio".
std::string file_behind(const Fd &file) {
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(file.number())).string();
}

bool is_iommufd(const Fd &file) {
  return file_behind(file) == "/dev/iommu";
}

Fd duplicate(const Fd &file) {
  return Fd{::fcntl(file.number(), F_DUPFD_CLOEXEC, 0)};
}

/// Runs `vfio-shim express off` for this process, of which another thread waits in the kernel.
/// @return Its exit status.
int express_off(const Provider &provider) {
  const std::string shim =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "vfio-shim";
  const std::string prefix = std::filesystem::relative(provider.groups, "/dev").string();
  const std::string command =
      shim + " express off --prefix " + prefix + " " + std::to_string(::getpid()) + " >/dev/null";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class ExpressSuite : public AttachedSuite {
protected:
  void TearDown() override {
    AttachedSuite::TearDown();
    EXPECT_TRUE(has_nothing_open(provider()));
  }
};

class Express : public ExpressSuite {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Express);
INSTANTIATE_TEST_SUITE_P(, Express, testing::ValuesIn(express_under_test()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(Express, TheContainerIsAnIommufd) {
  EXPECT_TRUE(is_iommufd(container().fd()));
  EXPECT_NE(::fcntl(container().fd().number(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(container().api_version(), answers(VFIO_API_VERSION));
  expect_dma_works(container(), edu());
}

/// As in linux/iommufd.h, which the distribution's headers do not have.
TEST_P(Express, NativeCallsWorkBesideLegacyOnes) {
  struct {
    std::uint32_t size = 12, id = 0;
    std::uint16_t op = 0, reserved = 0;
  } ioas;
  struct {
    std::uint32_t size = 40, flags = 1 | 2 | 4, id = 0, reserved = 0;
    std::uint64_t address = 0, length = 0, iova = 0;
  } map;
  const Memory memory{page * 2};
  memory.fill({0}, Edu::largest_transfer, seed);
  ASSERT_EQ(container().map(some_iova, memory.data(), page), succeeds);
  ASSERT_EQ(container().fd().ioctl(_IO(';', 0x88), &ioas), succeeds);
  map.id = ioas.id;
  map.address = reinterpret_cast<std::uintptr_t>(memory.at(page));
  map.length = page.count;
  map.iova = (some_iova + page).address;
  ASSERT_EQ(container().fd().ioctl(_IO(';', 0x85), &map), succeeds);
  copy_by_dma(edu(), some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
  EXPECT_EQ(container().unmap(some_iova, memory.size()), unmaps(memory.size()));
}

TEST_P(Express, CloseOnExecStaysAsItWas) {
  const PciDevice other = topology::lone_edus(2)[1];
  const Container kept{provider()};
  ASSERT_EQ(::fcntl(kept.fd().number(), F_SETFD, 0), 0);
  const Group group{provider(), other.group};
  ASSERT_EQ(group.set_container(kept), succeeds);
  ASSERT_EQ(kept.set_iommu(IommuType::Type1v2), succeeds);
  EXPECT_TRUE(is_iommufd(kept.fd()));
  EXPECT_EQ(::fcntl(kept.fd().number(), F_GETFD), 0);
}

TEST_P(Express, AnOlderDuplicateIsServedOnTheSameAddresses) {
  const PciDevice other = topology::lone_edus(2)[1];
  const Container original{provider()};
  const Container older{duplicate(original.fd())};
  const Group group{provider(), other.group};
  ASSERT_EQ(group.set_container(original), succeeds);
  ASSERT_EQ(original.set_iommu(IommuType::Type1v2), succeeds);
  ASSERT_TRUE(is_iommufd(original.fd()));
  ASSERT_FALSE(is_iommufd(older.fd()));

  const Device device = group.device(other.address);
  const Memory memory{page * 2};
  EXPECT_EQ(older.map(some_iova, memory), succeeds);
  EXPECT_EQ(original.map(some_iova, memory), fails(EEXIST)) << "the same addresses";
  memory.fill({0}, Edu::largest_transfer, seed);
  copy_by_dma(Edu{device}, some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
  EXPECT_EQ(original.unmap(some_iova, memory.size()), unmaps(memory.size()));

  ASSERT_EQ(original.map(some_iova, memory), succeeds);
  EXPECT_EQ(older.map(some_iova, memory), fails(EEXIST));
  expect_dma_works(older, Edu{device}, some_iova + page * 4);
  EXPECT_EQ(original.map(some_iova, memory), fails(EEXIST)) << "what the client mapped is there";
  EXPECT_EQ(older.unmap_all(), unmaps(memory.size()));
  EXPECT_EQ(original.map(some_iova, memory), succeeds);
}

TEST_P(Express, ASecondGroupJoinsByTheIommufd) {
  const PciDevice other = topology::lone_edus(2)[1];
  const Memory memory{page * 2};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  const Group group{provider(), other.group};
  ASSERT_EQ(group.set_container(container()), succeeds);
  const Device device = group.device(other.address);
  memory.fill({0}, Edu::largest_transfer, seed);
  copy_by_dma(Edu{device}, some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
}

TEST_P(Express, TheLastGroupLeavesAndAnotherComes) {
  const std::vector<PciDevice> edus = topology::lone_edus(2);
  const Memory memory{page * 2};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  client().device.close();
  ASSERT_EQ(client().group.unset_container(), succeeds);
  EXPECT_EQ(container().map(some_iova, memory), fails(ENODEV)) << "there is no address space";

  const Group group{provider(), edus[1].group};
  ASSERT_EQ(group.set_container(container()), succeeds);
  EXPECT_EQ(container().set_iommu(IommuType::Type1v2), succeeds);
  EXPECT_EQ(container().map(some_iova, memory), succeeds) << "what was mapped has gone";
  const Device device = group.device(edus[1].address);
  memory.fill({0}, Edu::largest_transfer, seed);
  copy_by_dma(Edu{device}, some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
}

TEST_P(Express, ClosingTheIommufdLeavesTheMappingsToTheGroup) {
  const Memory memory{page * 2};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  client().container.close();
  memory.fill({0}, Edu::largest_transfer, seed);
  copy_by_dma(edu(), some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
}

TEST_P(Express, AForkedChildMapsItsOwnMemory) {
  const Memory memory{page};
  memory.fill({0}, Edu::largest_transfer, seed);
  run_in_child([&] {
    const Memory own{page * 2};
    own.fill({0}, Edu::largest_transfer, seed + 1);
    ASSERT_EQ(container().map(some_iova, own), succeeds);
    copy_by_dma(edu(), some_iova, some_iova + page);
    EXPECT_TRUE(own.holds(page, Edu::largest_transfer, seed + 1));
    EXPECT_EQ(container().unmap_all(), unmaps(own.size()));
  });
  EXPECT_EQ(container().map(some_iova, memory), succeeds);
}

/// Whoever has the iommufd can copy from all that is mapped in it (IOMMU_IOAS_COPY), so nothing of
/// the client's memory may be there that the client has not mapped.
TEST_P(Express, AChildFindsNoMemoryOfItsParentInTheIommufd) {
  struct {
    std::uint32_t size, flags, target, source;
    std::uint64_t length, target_iova, source_iova;
  } copy{};
  constexpr unsigned long ioas_copy = _IO(';', 0x83);
  constexpr std::uint32_t fixed_readable = 1U | 4U;
  const Memory secret{page};
  const Container older{duplicate(container().fd())};
  const Memory memory{page};
  ASSERT_EQ(older.map(some_iova, memory), succeeds);
  const auto place = reinterpret_cast<std::uintptr_t>(secret.data());
  run_in_child([&] {
    int found = 0;
    for (std::uint32_t source = 1; source < 64; ++source)
      for (std::uint32_t target = 1; target < 64; ++target) {
        copy = {.size = sizeof(copy),
                .flags = fixed_readable,
                .target = target,
                .source = source,
                .length = page.count,
                .target_iova = 0x40000000,
                .source_iova = place};
        found += container().fd().ioctl(ioas_copy, &copy).ok() ? 1 : 0;
      }
    EXPECT_EQ(found, 0);
  });
}

TEST_P(Express, SurvivesTheWorker) {
  SurvivingDaemon daemon{provider()};
  const Memory memory{page * 2};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  ASSERT_TRUE(daemon.replace_worker());
  memory.fill({0}, Edu::largest_transfer, seed);
  copy_by_dma(edu(), some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));

  const PciDevice other = topology::lone_edus(2)[1];
  {
    const Group group{provider(), other.group};
    ASSERT_EQ(group.set_container(container()), succeeds) << "the next worker knows the iommufd";
    const Device device = group.device(other.address);
    copy_by_dma(Edu{device}, some_iova, some_iova + page);
  }
  EXPECT_EQ(container().unmap_all(), unmaps(memory.size()));
}

TEST_P(Express, TheWorkerDiesWhileItSetsTheIommu) {
  const PciDevice other = topology::lone_edus(2)[1];
  SurvivingDaemon daemon{provider()};
  for (int time = 0; time < 10; ++time) {
    const Container one{provider()};
    const Group group{provider(), other.group};
    ASSERT_EQ(group.set_container(one), succeeds);
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::microseconds{500 * time});
      daemon.kill_worker();
    });
    EXPECT_EQ(one.set_iommu(IommuType::Type1v2), succeeds);
    killer.join();
    ASSERT_TRUE(daemon.serves_again());
    EXPECT_TRUE(is_iommufd(one.fd())) << "after " << time;
    const Device device = group.device(other.address);
    expect_dma_works(one, Edu{device});
  }
}

/// A call that waits in the kernel, for memory of the client's, keeps the iommufd's locks.
TEST_P(Express, AClientThatIsStuckInTheKernelKeepsNobodyElseWaiting) {
  const std::vector<PciDevice> edus = topology::lone_edus(2);
  client().device.close();
  client().group.close();
  const Signpost stuck;
  Child hostile{[&] {
    const Client own{provider(), edus[0]};
    const MissingPage memory;
    std::thread([&] { (void)own.container.map(some_iova, memory.present(), page * 2); }).detach();
    memory.await_fault();
    stuck.announce();
    ::pause();
  }};
  ASSERT_TRUE(stuck.await());
  for (int time = 0; time < 3; ++time)
    expect_a_client_works(provider(), edus[1]);
  SurvivingDaemon daemon{provider()};
  EXPECT_TRUE(daemon.replace_worker());
  for (int time = 0; time < 3; ++time)
    expect_a_client_works(provider(), edus[1]);
  hostile.kill_now();
  EXPECT_TRUE(within(5s, [&] {
    return Fd::try_open(provider().group_path(edus[0].group), O_RDWR).ok();
  })) << "its group is free again";
}

/// This process, with a second thread that waits: whoever borrows takes that.
TEST_P(Express, CanBeUndone) {
  const Memory memory{page * 2};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  ASSERT_EQ(express_off(provider()), 0);
  ASSERT_FALSE(is_iommufd(container().fd()));
  EXPECT_NE(::fcntl(container().fd().number(), F_GETFD) & FD_CLOEXEC, 0);

  EXPECT_EQ(container().map(some_iova, memory), fails(EEXIST)) << "what was mapped is there";
  memory.fill({0}, Edu::largest_transfer, seed);
  copy_by_dma(edu(), some_iova, some_iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
  SurvivingDaemon daemon{provider()};
  EXPECT_TRUE(daemon.replace_worker());
  EXPECT_EQ(container().unmap(some_iova, memory.size()), unmaps(memory.size()));
  expect_dma_works(container(), edu());
  EXPECT_NE(express_off(provider()), 0) << "there is nothing left to undo";
}

TEST_P(Express, WhatIsUndoneTellsWhatIsDirty) {
  const Memory memory{page * 2};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  ASSERT_EQ(express_off(provider()), 0);
  ASSERT_EQ(container().dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), succeeds);
  copy_by_dma(edu(), some_iova, some_iova + page);
  std::uint64_t bitmap = 0;
  EXPECT_EQ(container().dirty_bitmap(some_iova, memory.size(), {&bitmap, 1}), succeeds);
  EXPECT_NE(bitmap & 2U, 0U) << "the device has written there";
  bitmap = 0;
  EXPECT_EQ(container().unmap_with_dirty_bitmap(some_iova, memory.size(), {&bitmap, 1}),
            unmaps(memory.size()));
  EXPECT_NE(bitmap & 2U, 0U) << "nor is it clean before it goes";
  EXPECT_EQ(container().dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), succeeds);
}

TEST_P(Express, AfterTheLastGroupWhatWasUndoneIsAsNew) {
  ASSERT_EQ(express_off(provider()), 0);
  client().device.close();
  ASSERT_EQ(client().group.unset_container(), succeeds);
  EXPECT_EQ(container().unmap_all(), fails(EINVAL));
  const PciDevice edu = topology::lone_edus(1)[0];
  ASSERT_EQ(client().group.set_container(container()), succeeds);
  ASSERT_EQ(container().set_iommu(IommuType::Type1v2), succeeds);
  EXPECT_TRUE(is_iommufd(container().fd())) << "it is express once more";
  const Device device = client().group.device(edu.address);
  expect_dma_works(container(), Edu{device});
}

} // namespace
