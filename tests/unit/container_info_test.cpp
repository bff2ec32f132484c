// SPDX-License-Identifier: MIT
/// @file
/// VFIO_IOMMU_GET_INFO: vfio_iommu_type1_get_info().

#include <array>

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr std::uint32_t head_size = sizeof(vfio_iommu_type1_info);
/// Migration, DMA available, and two ranges: below and above the MSIs.
constexpr std::uint32_t chain_size = 32 + 16 + 16 + 2 * 16;

class GetInfo : public ContainerTest {
protected:
  /// A buffer of ones that claims to be @p argsz bytes.
  std::array<std::byte, 512> buffer{};

  Answer get_info(std::uint32_t argsz) {
    buffer.fill(std::byte{0xff});
    std::memcpy(buffer.data(), &argsz, sizeof(argsz));
    return container.call(VFIO_IOMMU_GET_INFO, buffer.data());
  }

  vfio_iommu_type1_info head() const {
    vfio_iommu_type1_info head{};
    std::memcpy(&head, buffer.data(), sizeof(head));
    return head;
  }

  /// The first byte that was not written.
  std::size_t written() const {
    std::size_t size = buffer.size();
    while (size != 0 && buffer[size - 1] == std::byte{0xff})
      --size;
    return size;
  }
};

TEST_F(GetInfo, RefusesAShortStruct) {
  for (const std::uint32_t argsz : {0U, 1U, 8U, 15U})
    EXPECT_EQ(get_info(argsz), fails(EINVAL)) << argsz;
}

TEST_F(GetInfo, AnswersTheOldestStruct) {
  ASSERT_EQ(get_info(16), succeeds);
  EXPECT_EQ(head().argsz, head_size + chain_size) << "what it takes";
  EXPECT_EQ(head().flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
  EXPECT_EQ(head().iova_pgsizes, machine.page_sizes);
  EXPECT_EQ(head().cap_offset, UINT32_MAX) << "not written: it is beyond argsz";
}

TEST_F(GetInfo, WritesNothingBeyondArgsz) {
  ASSERT_EQ(get_info(16), succeeds);
  EXPECT_LE(written(), 16U);
  ASSERT_EQ(get_info(20), succeeds);
  EXPECT_EQ(written(), 20U);
  EXPECT_EQ(head().cap_offset, 0U);
  ASSERT_EQ(get_info(head_size), succeeds);
  EXPECT_EQ(written(), head_size);
  ASSERT_EQ(get_info(head_size + chain_size - 1), succeeds);
  EXPECT_EQ(written(), head_size);
}

TEST_F(GetInfo, SaysHowLargeTheStructMustBe) {
  for (const std::uint32_t argsz : {head_size, head_size + 8, head_size + chain_size - 1}) {
    ASSERT_EQ(get_info(argsz), succeeds);
    EXPECT_EQ(head().argsz, head_size + chain_size);
    EXPECT_EQ(head().cap_offset, 0U) << "no chain";
    EXPECT_EQ(head().flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS)
        << "although it has one";
  }
}

TEST_F(GetInfo, GivesTheChainIfThereIsRoomForIt) {
  for (const std::uint32_t argsz : {head_size + chain_size, head_size + chain_size + 1, 512U}) {
    ASSERT_EQ(get_info(argsz), succeeds);
    EXPECT_EQ(head().argsz, argsz) << "left alone";
    EXPECT_EQ(head().cap_offset, head_size);
    EXPECT_LE(written(), head_size + chain_size);
    const IommuInfo info = IommuInfo::parse(buffer);
    EXPECT_EQ(info.chain.size(), 3U);
  }
}

TEST_F(GetInfo, BelievesAnEnormousArgsz) {
  ASSERT_EQ(get_info(UINT32_MAX), succeeds);
  EXPECT_EQ(head().cap_offset, head_size);
}

TEST_F(GetInfo, SaysWhatIsUsable) {
  const IommuInfo info = container.info();
  EXPECT_EQ(info.usable, (std::vector<IovaRange>{{Iova{0}, Iova{0xfedfffff}},
                                                 {Iova{0xfef00000}, FakeMachine::whole.last}}));
}

TEST_F(GetInfo, CountsMappings) {
  EXPECT_EQ(container.info().available, 65535U);
  ASSERT_EQ(container.map(Iova{0x1000}, some_memory, Bytes{0x1000}), succeeds);
  ASSERT_EQ(container.map(Iova{0x2000}, some_memory, Bytes{0x1000}), succeeds);
  EXPECT_EQ(container.info().available, 65533U);
  ASSERT_EQ(container.unmap_all(), answers(0x2000));
  EXPECT_EQ(container.info().available, 65535U);
}

TEST_F(GetInfo, SaysLessIsUsableWhenAGroupJoins) {
  GroupFile pair = program.open_group(pair_group);
  ASSERT_EQ(pair.set_container(container), succeeds);
  EXPECT_EQ(container.info().usable,
            (std::vector<IovaRange>{{Iova{0}, Iova{0x3fffffff}},
                                    {Iova{0x50000000}, Iova{0xfedfffff}},
                                    {Iova{0xfef00000}, FakeMachine::whole.last}}));
  ASSERT_EQ(pair.unset_container(), succeeds);
  EXPECT_EQ(container.info().usable.size(), 2U) << "and more again when it leaves";
}

TEST_F(GetInfo, RefusesPointersToNothing) {
  const Pages pages;
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, nullptr), fails(EFAULT));
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, pages.end()), fails(EFAULT));
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, pages.end() - 15), fails(EFAULT));
}

TEST_F(GetInfo, TakesAStructAtTheVeryEndOfMemory) {
  const Pages pages;
  const vfio_iommu_type1_info request{.argsz = 16, .flags = 0, .iova_pgsizes = 0, .cap_offset = 0};
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, pages.put_at_end(request, 16)), succeeds);
}

TEST_F(GetInfo, FailsIfItsAnswerReachesIntoNothing) {
  const Pages pages;
  vfio_iommu_type1_info request{.argsz = head_size, .flags = 0, .iova_pgsizes = 0, .cap_offset = 0};
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, pages.put_at_end(request, 16)), fails(EFAULT))
      << "24 bytes were said to be there";
  request.argsz = head_size + chain_size;
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, pages.put_at_end(request)), fails(EFAULT))
      << "the chain was said to have room";
}

TEST_F(GetInfo, FailsOnReadOnlyMemory) {
  const Pages pages;
  const vfio_iommu_type1_info request{.argsz = 16, .flags = 0, .iova_pgsizes = 0, .cap_offset = 0};
  std::byte *place = pages.put_at_end(request, 16);
  pages.protect(PROT_READ);
  EXPECT_EQ(container.call(VFIO_IOMMU_GET_INFO, place), fails(EFAULT));
}

} // namespace
} // namespace vfio_shim::test
