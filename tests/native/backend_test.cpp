// SPDX-License-Identifier: MIT
// IommufdBackend by itself: what Backend promises, without type1's rules in front.

#include "backend/iommufd.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>

#include <fcntl.h>

#include "support/native_test.hpp"
#include "support/parted_client.hpp"

namespace vfio_shim::test {
namespace {

constexpr Access both{.read = true, .write = true};

/// A backend with the first edu's group behind it.
class NativeBackend : public NativeTest {
protected:
  void SetUp() override {
    const auto found = topology::find(group_of(edus[0]));
    ASSERT_TRUE(found);
    group = *found;
    auto made = IommufdBackend::create("/dev/iommu");
    ASSERT_EQ(answer_of(made), succeeds);
    backend = std::move(*made);
    ASSERT_EQ(answer_of(backend->claim(group)), succeeds);
    ASSERT_EQ(answer_of(backend->attach_claimed()), succeeds);
  }
  void TearDown() override {
    backend.reset();
    NativeTest::TearDown();
  }

  Answer map(Iova iova, const legacy::Memory &memory, Access access = both) {
    return answer_of(backend->map(
        client,
        {.iova = iova, .vaddr = address_of(memory), .size = size_of(memory), .access = access}));
  }
  Answer unmap(Iova iova, Bytes size) {
    return answer_of(backend->unmap({iova, Iova{iova.value + size.value - 1}}));
  }

  /// The device, as a container gives it away.
  Fd device() {
    auto file = backend->open_device(group.id, group.devices.front());
    EXPECT_EQ(answer_of(file), succeeds);
    backend->given_away(group.id, group.devices.front().name);
    return file ? std::move(*file) : Fd{};
  }

  topology::Group group;
  std::unique_ptr<Backend> backend;
  PartedClient client;
  legacy::Memory memory{legacy::page * 4};
};

TEST_F(NativeBackend, NeedsItsNode) {
  EXPECT_EQ(answer_of(IommufdBackend::create("/dev/no-iommu")), fails(ENOENT));
  EXPECT_EQ(answer_of(IommufdBackend::create("/dev/null")), fails(ENOTTY));
}

TEST_F(NativeBackend, ClaimsAGroupForItselfAlone) {
  auto other = IommufdBackend::create("/dev/iommu");
  ASSERT_EQ(answer_of(other), succeeds);
  EXPECT_EQ(answer_of((*other)->claim(group)), fails(EPERM));
  backend->release(group.id);
  EXPECT_EQ(answer_of((*other)->claim(group)), succeeds);
}

TEST_F(NativeBackend, ClaimsNoGroupWithoutADevice) {
  EXPECT_EQ(answer_of(backend->claim({.id = GroupId{999}, .devices = {}})), fails(ENODEV));
}

/// Has a driver's file in sysfs take the address of a device.
void tell_vfio_pci(const std::string &file, const std::string &address) {
  std::ofstream out{"/sys/bus/pci/drivers/vfio-pci/" + file};
  out << address << std::flush;
  EXPECT_TRUE(out.good()) << file << " " << address;
}

/// Two devices that nobody has open have each other's cdev while this lives: the kernel gives the
/// lowest number that is free.
class SwappedCdevs {
public:
  SwappedCdevs(std::string low, std::string high) : low_(std::move(low)), high_(std::move(high)) {
    bind_again(high_, low_);
  }
  SwappedCdevs(const SwappedCdevs &) = delete;
  SwappedCdevs &operator=(const SwappedCdevs &) = delete;
  ~SwappedCdevs() { bind_again(low_, high_); }

private:
  void bind_again(const std::string &first, const std::string &second) const {
    tell_vfio_pci("unbind", low_);
    tell_vfio_pci("unbind", high_);
    tell_vfio_pci("bind", first);
    tell_vfio_pci("bind", second);
  }

  std::string low_;
  std::string high_;
};

TEST_F(NativeBackend, ClaimsNoGroupWhoseCdevHasBecomeAnothers) {
  backend.reset();
  const topology::Group before = group;
  const SwappedCdevs swapped(edus[0].address, edus[1].address);
  const auto other = topology::find(group_of(edus[1]));
  ASSERT_TRUE(other);
  ASSERT_EQ(other->devices.front().cdev, before.devices.front().cdev);

  auto next = IommufdBackend::create("/dev/iommu");
  ASSERT_EQ(answer_of(next), succeeds);
  EXPECT_EQ(answer_of((*next)->claim(before)), fails(ENODEV));
  auto owner = IommufdBackend::create("/dev/iommu");
  ASSERT_EQ(answer_of(owner), succeeds);
  EXPECT_EQ(answer_of((*owner)->claim(*other)), succeeds) << "the other device was left alone";
}

TEST_F(NativeBackend, ClaimsNoGroupWhoseNodeIsNotThere) {
  const topology::Group gone{.id = GroupId{999},
                             .devices = {{"0000:77:00.0", "/dev/vfio/devices/vfio999"}}};
  EXPECT_EQ(answer_of(backend->claim(gone)), fails(ENOENT));
}

TEST_F(NativeBackend, AttachesAsOftenAsItIsAskedTo) {
  EXPECT_EQ(answer_of(backend->attach_claimed()), succeeds);
  EXPECT_EQ(answer_of(backend->attach_claimed()), succeeds);
}

TEST_F(NativeBackend, SaysWhatIsUsableWithTheGroupsThatAreAttached) {
  const auto space = backend->address_space();
  ASSERT_EQ(answer_of(space), succeeds);
  EXPECT_EQ(space->page_size(), page);
  EXPECT_EQ(space->usable.size(), 2U);
}

TEST_F(NativeBackend, RefusesReservedIovasByItself) {
  const auto space = backend->address_space();
  ASSERT_EQ(answer_of(space), succeeds);
  const legacy::Memory one{legacy::page};
  for (const IovaRange &range : space->usable) {
    EXPECT_EQ(map(range.first, one), succeeds) << fmt::format("{}", range);
    EXPECT_EQ(map(Iova{range.last.value - 0xfff}, one), succeeds) << fmt::format("{}", range);
    EXPECT_FALSE(map(Iova{range.last.value + 1}, one).ok()) << fmt::format("{}", range);
  }
}

TEST_F(NativeBackend, UnmapsNothingSuccessfully) {
  EXPECT_EQ(unmap(some_iova, page), succeeds);
  EXPECT_EQ(answer_of(backend->unmap({Iova{0}, Iova{UINT64_MAX}})), succeeds);
}

TEST_F(NativeBackend, UnmapsEverythingUpToTheTop) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  EXPECT_EQ(answer_of(backend->unmap({Iova{0}, Iova{UINT64_MAX}})), succeeds);
  EXPECT_EQ(map(some_iova, memory), succeeds);
  EXPECT_EQ(answer_of(backend->unmap({Iova{0x1000}, Iova{UINT64_MAX}})), succeeds);
  EXPECT_EQ(map(some_iova, memory), succeeds);
}

TEST_F(NativeBackend, ChargesPinnedMemoryToTheProcess) {
  const std::uint64_t before = pinned_bytes();
  ASSERT_EQ(map(some_iova, memory), succeeds);
  EXPECT_EQ(pinned_bytes(), before + memory.size().count);
  ASSERT_EQ(unmap(some_iova, size_of(memory)), succeeds);
  EXPECT_EQ(pinned_bytes(), before);
}

TEST_F(NativeBackend, UnpinsEverythingInTheEndEvenIfTheClientHoldsTheDevice) {
  const std::uint64_t before = pinned_bytes();
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const OpenEdu held{device()};
  backend.reset();
  EXPECT_EQ(pinned_bytes(), before);
  EXPECT_FALSE(device_reaches(held.edu(), memory, some_iova));
}

TEST_F(NativeBackend, GivesADeviceOnceAndAgainWhenItIsClosed) {
  Fd file = device();
  ASSERT_TRUE(file);
  EXPECT_FALSE(backend->open_devices(group.id).empty());
  EXPECT_EQ(answer_of(backend->open_device(group.id, group.devices.front())), fails(EBUSY));
  file.reset();
  EXPECT_TRUE(backend->open_devices(group.id).empty());
  EXPECT_TRUE(device());
}

TEST_F(NativeBackend, GivesADeviceThatWasNotTakenOnceMore) {
  { auto dropped = backend->open_device(group.id, group.devices.front()); }
  EXPECT_TRUE(backend->open_devices(group.id).empty()) << "it was never given away";
  EXPECT_TRUE(device());
}

TEST_F(NativeBackend, IsNotBotheredByOtherGroups) {
  EXPECT_TRUE(backend->open_devices(GroupId{999}).empty());
  backend->given_away(GroupId{999}, "0000:77:00.0");
  backend->release(GroupId{999});
  EXPECT_EQ(map(some_iova, memory), succeeds);
}

/// Memory in parts: by address and by file, as the shim's clients have it.
class NativeParts : public NativeBackend {
protected:
  void SetUp() override {
    NativeBackend::SetUp();
    ASSERT_NE(::mmap(memory.at(legacy::page), 2 * page.value, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED, file.number(), page.value),
              MAP_FAILED);
    // One page by address, two by file (from the file's second page on), one by address.
    client.add_part(address_of(memory), page);
    client.add_part(address_of(memory.at(legacy::page)), Bytes{0x2000}, file.number(), page);
    client.add_part(address_of(memory.at(legacy::page * 3)), page);
  }

  legacy::Fd file = legacy::make_memfd(legacy::page * 3);
};

TEST_F(NativeParts, AreOneMappingToTheDevice) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  const legacy::Memory seen{legacy::page};
  PartedClient whole;
  ASSERT_EQ(
      answer_of(backend->map(
          whole, {.iova = other_iova, .vaddr = address_of(seen), .size = page, .access = both})),
      succeeds);
  std::ranges::generate(memory.span({0}, memory.size()),
                        [number = 0]() mutable { return static_cast<std::byte>(number++ % 251); });
  const OpenEdu edu{device()};
  for (std::uint64_t border = 1; border < 4; ++border) {
    const legacy::Bytes from = legacy::page * border - legacy::Bytes{1024};
    edu.edu().fetch(to_legacy(some_iova) + from, {2048});
    edu.edu().store(to_legacy(other_iova), {2048});
    EXPECT_EQ(std::memcmp(seen.data(), memory.at(from), 2048), 0) << "border " << border;
  }
}

TEST_F(NativeParts, AreUnmappedTogether) {
  ASSERT_EQ(map(some_iova, memory), succeeds);
  ASSERT_EQ(unmap(some_iova, size_of(memory)), succeeds);
  EXPECT_EQ(map(some_iova, memory), succeeds);
}

TEST_F(NativeParts, AreAllMappedOrNone) {
  const std::uint64_t before = pinned_bytes();
  memory.punch_hole(legacy::page * 3, legacy::page);
  EXPECT_EQ(map(some_iova, memory), fails(EFAULT));
  EXPECT_EQ(pinned_bytes(), before);
  const legacy::Memory one{legacy::page};
  client.forget_parts();
  for (std::uint64_t i = 0; i < 4; ++i)
    EXPECT_EQ(map(some_iova + Bytes{i * 0x1000}, one), succeeds) << "page " << i << " is free";
}

TEST_F(NativeParts, AreTakenBackIfTheFirstOneFails) {
  memory.punch_hole({0}, legacy::page);
  EXPECT_EQ(map(some_iova, memory), fails(EFAULT));
  client.forget_parts();
  EXPECT_EQ(map(some_iova, legacy::Memory{legacy::page}), succeeds);
}

TEST_F(NativeParts, AreTakenBackIfTheClientDiedAfterMappingTheLastOne) {
  client.fail_ioctl(1, ESRCH);
  EXPECT_EQ(map(some_iova, memory), fails(ESRCH));
  client.fail_ioctl(-1, 0);
  EXPECT_EQ(map(some_iova, memory), succeeds) << "although it had been mapped";
}

TEST_F(NativeParts, AreTakenBackIfTheClientDiedAfterMappingTheFirstOne) {
  client.fail_ioctl(0, ESRCH);
  EXPECT_EQ(map(some_iova, memory), fails(ESRCH));
  client.fail_ioctl(-1, 0);
  EXPECT_EQ(map(some_iova, memory), succeeds);
}

TEST_F(NativeParts, BeyondTheEndOfTheirFileAreRefused) {
  ASSERT_EQ(::ftruncate(file.number(), static_cast<off_t>(2 * page.value)), 0);
  EXPECT_FALSE(map(some_iova, memory).ok());
}

} // namespace
} // namespace vfio_shim::test
