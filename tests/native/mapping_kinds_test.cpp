// SPDX-License-Identifier: MIT
// Kinds of memory and of access. The legacy suites ask the same of every provider; here it is
// pinned by address alone, as OwnProcess has it.

#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

using legacy::operator""_MiB;

class MappingKinds : public NativeContainerTest,
                     public testing::WithParamInterface<legacy::MemoryKind> {};

INSTANTIATE_TEST_SUITE_P(, MappingKinds, testing::ValuesIn(legacy::every_memory_kind),
                         [](const auto &info) { return to_string(info.param); });

TEST_P(MappingKinds, AreReadAndWrittenByTheDevice) {
  const legacy::Memory memory = legacy::Memory::allocate(GetParam(), 4_MiB);
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const OpenEdu device{group->device(edus[0].address)};
  EXPECT_TRUE(dma_works(device.edu(), memory, some_iova));
  ASSERT_EQ(container.unmap(some_iova, size_of(memory)),
            answers(static_cast<std::int64_t>(memory.size().count)));
  EXPECT_FALSE(device_reaches(device.edu(), memory, some_iova));
}

class MappingAccess : public NativeContainerTest {
protected:
  legacy::Memory memory{legacy::page * 2};
};

TEST_F(MappingAccess, ForReadingKeepsTheDeviceFromWriting) {
  ASSERT_EQ(map(some_iova, memory, VFIO_DMA_MAP_FLAG_READ), succeeds);
  const OpenEdu device{group->device(edus[0].address)};
  EXPECT_FALSE(device_reaches(device.edu(), memory, some_iova));
}

TEST_F(MappingAccess, ForWritingLetsTheDeviceWrite) {
  ASSERT_EQ(map(some_iova, memory, VFIO_DMA_MAP_FLAG_WRITE), succeeds);
  const OpenEdu device{group->device(edus[0].address)};
  EXPECT_TRUE(device_reaches(device.edu(), memory, some_iova));
}

TEST_F(MappingAccess, OfTheSameMemoryCanDifferFromIovaToIova) {
  ASSERT_EQ(map(some_iova, memory, VFIO_DMA_MAP_FLAG_READ), succeeds);
  ASSERT_EQ(map(other_iova, memory, VFIO_DMA_MAP_FLAG_WRITE), succeeds);
  const OpenEdu device{group->device(edus[0].address)};
  EXPECT_FALSE(device_reaches(device.edu(), memory, some_iova));
  EXPECT_TRUE(device_reaches(device.edu(), memory, other_iova));
}

TEST_F(MappingAccess, ToMemoryThatIsNotThereIsAFault) {
  const Pages pages;
  EXPECT_EQ(container.map(some_iova, address_of(pages.end()), page), fails(EFAULT));
  EXPECT_EQ(container.map(some_iova, address_of(pages.begin()), Bytes{0x2000}), fails(EFAULT))
      << "half of it";
  EXPECT_EQ(container.map(some_iova, ClientAddr{0}, page), fails(EFAULT));
  EXPECT_EQ(container.map(some_iova, ClientAddr{0xffffffff81000000}, page), fails(EFAULT));
  EXPECT_EQ(container.map(some_iova, ClientAddr{UINT64_MAX - 0xfff}, page), fails(EFAULT));
  EXPECT_EQ(container.unmap_all(), answers(0)) << "nothing was left behind";
}

TEST_F(MappingAccess, ForWritingToReadOnlyMemoryIsAFault) {
  const Pages pages;
  pages.protect(PROT_READ);
  EXPECT_EQ(container.map(some_iova, address_of(pages.begin()), page, VFIO_DMA_MAP_FLAG_WRITE),
            fails(EFAULT));
  EXPECT_EQ(container.map(some_iova, address_of(pages.begin()), page, VFIO_DMA_MAP_FLAG_READ),
            succeeds);
}

} // namespace
} // namespace vfio_shim::test
