// SPDX-License-Identifier: MIT
// Clients as processes: several at once, forked, in other namespaces, without privileges.

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 5;
constexpr uid_t nobody = 65534;

/// Lets `nobody` use a node, for the lifetime of this object.
class NodeForNobody {
public:
  explicit NodeForNobody(std::string path) : path_{std::move(path)} {
    if (::stat(path_.c_str(), &before_) != 0)
      throw_errno("stat " + path_);
    Answer::of(::chown(path_.c_str(), nobody, nobody)).or_throw("chown " + path_);
  }
  NodeForNobody(const NodeForNobody &) = delete;
  NodeForNobody &operator=(const NodeForNobody &) = delete;
  ~NodeForNobody() {
    [[maybe_unused]] const int ignored = ::chown(path_.c_str(), before_.st_uid, before_.st_gid);
  }

private:
  std::string path_;
  struct stat before_ {};
};

void become_nobody() {
  ASSERT_EQ(::setgroups(0, nullptr), 0);
  ASSERT_EQ(::setresgid(nobody, nobody, nobody), 0);
  ASSERT_EQ(::setresuid(nobody, nobody, nobody), 0);
}

LEGACY_SUITE(Processes, LegacySuite);
LEGACY_SUITE(ForkedClient, AttachedSuite);

TEST_P(Processes, SeveralClientsAtOnce) {
  const auto edus = topology::lone_edus(2);
  const std::vector<PciDevice> devices{edus[0], edus[1], topology::edus_sharing_a_group()[0]};
  std::vector<std::unique_ptr<Child>> clients;
  for (const PciDevice &device : devices)
    clients.push_back(std::make_unique<Child>([this, &device] {
      const Client client{provider(), device};
      const Edu edu{client.device};
      for (int round = 0; round < 3; ++round)
        expect_dma_works(client.container, edu);
    }));
  for (const auto &client : clients)
    EXPECT_TRUE(client->wait());
}

TEST_P(Processes, OneAfterTheOther) {
  const PciDevice device = topology::lone_edus(1)[0];
  for (int i = 0; i < 5; ++i)
    run_in_child([&] {
      const Client client{provider(), device};
      const Memory memory{page};
      EXPECT_EQ(client.container.map(some_iova, memory), succeeds);
    });
}

TEST_P(Processes, AClientThatExitsWithoutClosingLeavesNothing) {
  const PciDevice device = topology::lone_edus(1)[0];
  run_in_child([&] {
    auto *leaked = new Client{provider(), device};
    const auto *memory = new Memory{page * 16};
    EXPECT_EQ(leaked->container.map(some_iova, *memory), succeeds);
  });
  const Client next{provider(), device};
  EXPECT_EQ(next.container.unmap_all(), unmaps({0}));
}

TEST_P(ForkedClient, AChildMapsItsOwnMemory) {
  Edu &device = edu();
  run_in_child([&] { expect_dma_works(container(), device); });
  EXPECT_EQ(container().unmap_all(), unmaps({0}));
}

TEST_P(ForkedClient, WhatAChildMappedOutlivesIt) {
  const Memory parents{page};
  run_in_child([&] {
    const Memory childs{page};
    childs.fill({0}, page, seed);
    EXPECT_EQ(container().map(some_iova, childs), succeeds);
  });
  ASSERT_EQ(container().map(some_iova + page, parents), succeeds);
  copy_by_dma(edu(), some_iova, some_iova + page);
  EXPECT_TRUE(parents.holds({0}, Edu::largest_transfer, seed));
  EXPECT_EQ(container().unmap_all(), unmaps(page * 2));
}

TEST_P(ForkedClient, TheParentUnmapsWhatALivingChildMapped) {
  const Signpost mapped;
  Child child{[&] {
    const Memory memory{page};
    EXPECT_EQ(container().map(some_iova, memory), succeeds);
    mapped.announce();
    ::pause();
  }};
  ASSERT_TRUE(mapped.await());
  EXPECT_EQ(container().unmap(some_iova, page), unmaps(page));
}

TEST_P(ForkedClient, AChildUnmapsWhatItsParentMapped) {
  const Memory memory{page};
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  run_in_child([&] { EXPECT_EQ(container().unmap_all(), unmaps(page)); });
  EXPECT_EQ(container().unmap_all(), unmaps({0}));
}

TEST_P(ForkedClient, AChildKeepsTheDeviceWhenItsParentLetsGo) {
  const PciDevice device = topology::lone_edus(1)[0];
  const Signpost let_go;
  Child child{[&] {
    const Edu childs{client().device};
    ASSERT_TRUE(let_go.await());
    expect_dma_works(container(), childs);
  }};
  client().device.close();
  client().group.close();
  client().container.close();
  EXPECT_EQ(Group::try_open(provider(), device.group), fails(EBUSY));
  let_go.announce();
  EXPECT_TRUE(child.wait());
  EXPECT_EQ(Group::try_open(provider(), device.group), succeeds);
}

TEST_P(ForkedClient, ADescriptorSentToAnotherProgramWorksThere) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const Fd here{ends[0]}, there{ends[1]};
  // The child closes what it inherited, and is left with the descriptor that it is sent.
  Child child{[&] {
    client().container.close();
    char byte = 0;
    iovec part{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{nullptr, 0, &part, 1, control, sizeof(control), 0};
    ASSERT_EQ(::recvmsg(there.number(), &message, MSG_CMSG_CLOEXEC), 1);
    int received = -1;
    std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    const Fd container_fd{received};
    const Memory memory{page};
    auto request = map_request(some_iova, memory.data(), page);
    EXPECT_EQ(container_fd.ioctl(VFIO_IOMMU_MAP_DMA, &request), succeeds);
  }};
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{nullptr, 0, &part, 1, control, sizeof(control), 0};
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int number = container().fd().number();
  std::memcpy(CMSG_DATA(header), &number, sizeof(int));
  ASSERT_EQ(::sendmsg(here.number(), &message, 0), 1);
  EXPECT_TRUE(child.wait());
  EXPECT_EQ(container().unmap_all(), unmaps(page));
}

TEST_P(Processes, AClientInNamespacesOfItsOwn) {
  const PciDevice device = topology::lone_edus(1)[0];
  run_in_child([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS),
              0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("none", "/proc", "tmpfs", 0, nullptr), 0) << "it sees no /proc";
    run_in_child([&] {
      ASSERT_EQ(::getpid(), 1);
      expect_a_client_works(provider(), device);
    });
  });
}

TEST_P(Processes, AClientThatSeesOnlyTheNodes) {
  const PciDevice device = topology::lone_edus(1)[0];
  const std::string root = "/run/legacy-client-root";
  const auto bind_node = [&](const std::string &path) {
    std::filesystem::create_directories(std::filesystem::path{root + path}.parent_path());
    const Fd made = Fd::open(root + path, O_CREAT | O_RDWR);
    ASSERT_EQ(::mount(path.c_str(), (root + path).c_str(), nullptr, MS_BIND, nullptr), 0);
  };
  run_in_child([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    std::filesystem::create_directories(root);
    ASSERT_EQ(::mount("none", root.c_str(), "tmpfs", 0, nullptr), 0);
    bind_node(provider().container);
    bind_node(provider().group_path(device.group));
    ASSERT_EQ(::chroot(root.c_str()), 0);
    ASSERT_EQ(::chdir("/"), 0);
    expect_a_client_works(provider(), device);
  });
  std::filesystem::remove(root);
}

TEST_P(Processes, AnUnprivilegedClient) {
  const PciDevice device = topology::lone_edus(1)[0];
  run_in_child([&] {
    become_nobody();
    EXPECT_EQ(Group::try_open(provider(), device.group), fails(EACCES));
  });
  const NodeForNobody group{provider().group_path(device.group)};
  const NodeForNobody container{provider().container};
  run_in_child([&] {
    become_nobody();
    expect_a_client_works(provider(), device);
  });
}

TEST_P(Processes, AClientInAUserNamespace) {
  const PciDevice device = topology::lone_edus(1)[0];
  run_in_child([&] {
    ASSERT_EQ(::unshare(CLONE_NEWUSER), 0);
    expect_a_client_works(provider(), device);
  });
}

} // namespace
