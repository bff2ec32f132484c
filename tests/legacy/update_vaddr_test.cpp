// SPDX-License-Identifier: MIT
// VFIO_UPDATE_VADDR: mappings that live on while their addresses in the client change, so that a
// program can exec, or hand its device to another one, while DMA goes on.

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 17;

LEGACY_SUITE(UpdateVaddrOffer, AttachedSuite);

TEST_P(UpdateVaddrOffer, Invalidates) {
  const Memory memory = Memory::allocate(MemoryKind::MemfdShared, page);
  ASSERT_EQ(container().map(some_iova, memory), succeeds);
  EXPECT_EQ(container().invalidate_vaddr(some_iova, page),
            expected(Behaviour::UpdateVaddr, unmaps(page)));
  EXPECT_EQ(container().update_vaddr(some_iova, memory.data(), page),
            expected(Behaviour::UpdateVaddr, succeeds));
}

/// Replaces this program by legacy_heir, which inherits these files. Returns only if that failed.
void become_heir(const Fd &container, const Fd &device, const Fd &memory, Iova iova) {
  std::vector<std::string> words{std::filesystem::read_symlink("/proc/self/exe").parent_path() /
                                 "legacy_heir"};
  for (const Fd *file : {&container, &device, &memory}) {
    ::fcntl(file->number(), F_SETFD, 0);
    words.push_back(std::to_string(file->number()));
  }
  words.push_back(std::to_string(iova.address));
  std::vector<char *> arguments;
  for (std::string &word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(arguments.front(), arguments.data());
}

class UpdateVaddrSuite : public AttachedSuite {
protected:
  const Memory memory_ = Memory::allocate(MemoryKind::MemfdShared, page * 4);

  void SetUp() override {
    AttachedSuite::SetUp();
    ASSERT_EQ(container().map(some_iova, memory_), succeeds);
  }
  /// The same memory at another address.
  Memory again() const {
    return {Fd{::dup(memory_.file().number())}, memory_.size(), PROT_READ | PROT_WRITE, MAP_SHARED};
  }
  void expect_dma_reaches(const Memory &memory) {
    memory.fill({0}, page, seed);
    copy_by_dma(edu(), some_iova, some_iova + page);
    EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed));
  }
};

LEGACY_SUITE_OF_THOSE_WITH(Behaviour::UpdateVaddr, UpdateVaddr, UpdateVaddrSuite);

TEST_P(UpdateVaddr, TheMappingLivesOn) {
  const std::uint32_t before = dma_available();
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(dma_available(), before);
  EXPECT_EQ(container().map(some_iova, memory_), fails(EEXIST));
  expect_dma_reaches(memory_);

  const Memory other = again();
  ASSERT_EQ(container().update_vaddr(some_iova, other.data(), other.size()), succeeds);
  expect_dma_reaches(other);
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size()));
}

TEST_P(UpdateVaddr, InvalidatingTwiceIsInvalid) {
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), fails(EINVAL));
  EXPECT_EQ(container().update_vaddr(some_iova, memory_.data(), memory_.size()), succeeds)
      << "it still is invalid";
}

TEST_P(UpdateVaddr, InvalidatingInPartInvalidatesNothing) {
  const Iova second = some_iova + 1_MiB;
  ASSERT_EQ(container().map(second, memory_), succeeds);
  ASSERT_EQ(container().invalidate_vaddr(second, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(container().invalidate_vaddr(some_iova, 2_MiB), fails(EINVAL))
      << "the second one is invalid already";
  EXPECT_EQ(container().update_vaddr(some_iova, memory_.data(), memory_.size()), fails(EINVAL))
      << "the first one is not";
  EXPECT_EQ(container().update_vaddr(second, memory_.data(), memory_.size()), succeeds);
}

TEST_P(UpdateVaddr, AllCanBeInvalidated) {
  ASSERT_EQ(container().map(some_iova + 1_MiB, memory_), succeeds);
  EXPECT_EQ(container().unmap({0}, {0}, VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL),
            unmaps(memory_.size() * 2));
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size() * 2)) << "and unmapped";
}

TEST_P(UpdateVaddr, ARangeMustNotCutAMapping) {
  EXPECT_EQ(container().invalidate_vaddr(some_iova, page), fails(EINVAL));
  EXPECT_EQ(container().invalidate_vaddr(some_iova + page, page), fails(EINVAL));
  EXPECT_EQ(container().invalidate_vaddr(some_iova + 1_MiB, page), unmaps({0})) << "nothing there";
}

TEST_P(UpdateVaddr, OnlyWhatIsInvalidCanBeUpdated) {
  const std::byte *vaddr = memory_.data();
  EXPECT_EQ(container().update_vaddr(some_iova, vaddr, memory_.size()), fails(EINVAL)) << "valid";
  EXPECT_EQ(container().update_vaddr(some_iova + 1_MiB, vaddr, page), fails(ENOENT))
      << "nothing there";
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(container().update_vaddr(some_iova, vaddr, page), fails(EINVAL)) << "a part";
  EXPECT_EQ(container().update_vaddr(some_iova + page, vaddr, page), fails(EINVAL)) << "a part";
  EXPECT_EQ(container().update_vaddr(some_iova, vaddr, memory_.size() + page), fails(EINVAL))
      << "more";
  EXPECT_EQ(container().update_vaddr(some_iova, vaddr + 1, memory_.size()), fails(EINVAL))
      << "misaligned";
  EXPECT_EQ(container().update_vaddr(some_iova, vaddr, {0}), fails(EINVAL)) << "size zero";
  EXPECT_EQ(container().update_vaddr(some_iova, vaddr, memory_.size()), succeeds);
}

TEST_P(UpdateVaddr, TakesNoPermissions) {
  auto request = map_request(some_iova, memory_.data(), memory_.size());
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  request.flags |= VFIO_DMA_MAP_FLAG_VADDR;
  EXPECT_EQ(container().fd().ioctl(VFIO_IOMMU_MAP_DMA, &request), fails(EINVAL));
}

TEST_P(UpdateVaddr, OtherMappingsGoOnMeanwhile) {
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(container().map(some_iova + 1_MiB, memory_), succeeds);
  EXPECT_EQ(container().unmap(some_iova + 1_MiB, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(container().unmap(some_iova, memory_.size()), unmaps(memory_.size()))
      << "the invalid one";
}

TEST_P(UpdateVaddr, NoGroupJoinsMeanwhile) {
  const PciDevice other = topology::lone_edus(2)[1];
  const Group group{provider(), other.group};
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  EXPECT_EQ(group.set_container(container()), fails(EBUSY));
  ASSERT_EQ(container().update_vaddr(some_iova, memory_.data(), memory_.size()), succeeds);
  EXPECT_EQ(group.set_container(container()), succeeds);
}

TEST_P(UpdateVaddr, PrivateMemoryMoves) {
  const Memory before{page * 4};
  const Memory after{page * 4};
  const Iova iova = some_iova + 1_MiB;
  ASSERT_EQ(container().map(iova, before), succeeds);
  ASSERT_EQ(container().invalidate_vaddr(iova, before.size()), unmaps(before.size()));
  ASSERT_NE(::mremap(before.data(), before.size().count, before.size().count,
                     MREMAP_MAYMOVE | MREMAP_FIXED, after.data()),
            MAP_FAILED);
  ASSERT_EQ(container().update_vaddr(iova, after.data(), after.size()), succeeds);
  after.fill({0}, page, seed);
  copy_by_dma(edu(), iova, iova + page);
  EXPECT_TRUE(after.holds(page, Edu::largest_transfer, seed)) << "the pages moved with it";
}

TEST_P(UpdateVaddr, TheDeviceGoesOnToTheOldPagesWhateverTheNewAddress) {
  const Memory unrelated{memory_.size()};
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  ASSERT_EQ(container().update_vaddr(some_iova, unrelated.data(), unrelated.size()), succeeds)
      << "nobody compares";
  expect_dma_reaches(memory_);
}

TEST_P(UpdateVaddr, AnotherProcessTakesOver) {
  edu();
  ASSERT_EQ(container().invalidate_vaddr(some_iova, memory_.size()), unmaps(memory_.size()));
  run_in_child([&] {
    const Memory childs = again();
    EXPECT_EQ(container().update_vaddr(some_iova, childs.data(), childs.size()), succeeds);
    expect_dma_reaches(childs);
  });
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size()));
}

TEST_P(UpdateVaddr, TheProgramExecs) {
  edu();
  const Iova iova = some_iova + 1_MiB;
  run_in_child([&] {
    const Memory mine = again();
    ASSERT_EQ(container().map(iova, mine), succeeds);
    ASSERT_EQ(container().invalidate_vaddr(iova, mine.size()), unmaps(mine.size()));
    become_heir(container().fd(), client().device.fd(), mine.file(), iova);
    FAIL() << "exec: " << std::strerror(errno);
  });
  EXPECT_EQ(container().unmap_all(), unmaps(memory_.size())) << "the heir has unmapped its own";
}

} // namespace
