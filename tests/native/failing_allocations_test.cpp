// SPDX-License-Identifier: MIT
// Every allocation of the kernel's that a call needs fails once: the call says ENOMEM, leaves
// everything as it was, and succeeds when it is made again.

#include "client/fault_injection.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <ostream>

#include "support/mock_backend.hpp"
#include "support/native_test.hpp"

namespace vfio_shim::test {
namespace {

/// What a program holds. Nothing that fails may change it.
struct Footprint {
  std::ptrdiff_t descriptors = 0;
  std::uint64_t pinned = 0;
  std::uint32_t mappings_available = 0;

  friend bool operator==(const Footprint &, const Footprint &) = default;
  friend std::ostream &operator<<(std::ostream &out, const Footprint &footprint) {
    return out << footprint.descriptors << " descriptors, " << footprint.pinned << " bytes pinned, "
               << footprint.mappings_available << " more mappings";
  }
};

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

/// Fixture of those tests, on top of another.
template <typename Base>
class Failing : public Base {
protected:
  using Step = std::function<Result<long>()>;

  Result<long> call(ContainerFile &file, unsigned int command, const void *argument) {
    return file.container().call(this->program.client(), command, address_of(argument).value);
  }
  Result<long> call(GroupFile &file, unsigned int command, const void *argument) {
    return file.group().call(this->program.client(), command, address_of(argument).value);
  }

  /// Has each allocation of @p step fail. @p step succeeds all the same or changes nothing; @p undo
  /// takes back what it does, and fails the test if that is not there.
  /// @param prepare Brings a fixture that was just set up to where @p step begins.
  /// @param container Whose mappings are looked at, if any.
  void expect_all_or_nothing(const std::function<void()> &prepare, const Step &step,
                             const std::function<void()> &undo,
                             ContainerFile *container = nullptr) {
    prepare();
    const Answer first = answer_of(step());
    ASSERT_TRUE(first.ok()) << first << " when nothing fails";
    undo();
    const Footprint before = footprint(container);
    unsigned int nth = 1;
    while (try_once(nth, prepare, step, undo, container, before) &&
           !testing::Test::HasFatalFailure()) {
      expect_as_before(container, before);
      if (testing::Test::HasFailure() && ++failed_ == enough_failures)
        break;
      ASSERT_LT(++nth, most_allocations);
    }
    EXPECT_GT(nth, 1U) << "it needs no allocation";
    testing::Test::RecordProperty("allocations", static_cast<int>(nth - 1));
  }

  /// Whether a failed attempt may leave one descriptor open.
  bool may_keep_a_descriptor = false;

  /// Closes all files, @p done among them if it is one, and sets the fixture up again.
  virtual void start_over(const Result<long> &done) = 0;

private:
  static constexpr unsigned int most_allocations = 5000;
  static constexpr int enough_failures = 5;

  static Footprint footprint(ContainerFile *container) {
    return {.descriptors = open_descriptors(),
            .pinned = pinned_bytes(),
            .mappings_available = container != nullptr ? container->info().available : 0};
  }

  /// Fewer descriptors are no leak: a group forgets who had a device once that is closed.
  void expect_as_before(ContainerFile *container, Footprint before) {
    const Footprint now = footprint(container);
    const std::ptrdiff_t most = before.descriptors + (may_keep_a_descriptor ? 1 : 0);
    EXPECT_LE(now.descriptors, most);
    before.descriptors = now.descriptors;
    EXPECT_EQ(now, before);
  }

  /// @return Whether there was an allocation to fail.
  bool try_once(unsigned int nth, const std::function<void()> &prepare, const Step &step,
                const std::function<void()> &undo, ContainerFile *container,
                const Footprint &before) {
    thread_.arm(nth);
    const Result<long> done = step();
    const legacy::Injected injected = thread_.disarm();
    const Answer answer = answer_of(done);
    SCOPED_TRACE(fmt::format("allocation {}", nth));
    if (injected == legacy::Injected::Nothing) {
      EXPECT_TRUE(answer.ok()) << answer;
    } else if (injected != legacy::Injected::Memory) {
      // It may have been done all the same, and no real kernel fails like that: what follows would
      // say nothing.
      start_over(done);
      prepare();
      EXPECT_TRUE(answer_of(step()).ok());
      undo();
      return true;
    } else if (!answer.ok()) {
      EXPECT_EQ(answer, fails(ENOMEM));
      expect_as_before(container, before);
      const Answer again = answer_of(step());
      EXPECT_TRUE(again.ok()) << again << " when it is made again";
    }
    undo();
    return injected != legacy::Injected::Nothing;
  }

  legacy::FaultInjection injection_;
  legacy::FailingThread thread_{injection_};
  int failed_ = 0;
};

/// The first edu's group and a container, apart.
class NativeFailing : public Failing<NativeTest> {
protected:
  void TearDown() override {
    close_all();
    Failing::TearDown();
  }
  void start_over(const Result<long> & /*done*/) override {
    close_all();
    container = program.open_container();
    group = program.open_group(group_of(edus[0]));
  }
  void close_all() {
    other.reset();
    group.close();
    container.close();
  }
  void join() { ASSERT_EQ(group.set_container(container), succeeds); }
  void join_and_map() {
    join();
    ASSERT_EQ(container.set_iommu(), succeeds);
    ASSERT_EQ(container.map(some_iova, address_of(memory), size_of(memory)), succeeds);
  }
  Result<long> set_container(GroupFile &file) {
    const int number = container.number();
    return call(file, VFIO_GROUP_SET_CONTAINER, &number);
  }

  ContainerFile container = program.open_container();
  GroupFile group = program.open_group(group_of(edus[0]));
  std::optional<GroupFile> other; ///< The second edu's.
  legacy::Memory memory{legacy::page * 600};
};

TEST_F(NativeFailing, AGroupJoinsAContainer) {
  expect_all_or_nothing([] {}, [&] { return set_container(group); },
                        [&] { EXPECT_EQ(group.unset_container(), succeeds); });
}

TEST_F(NativeFailing, TheIommuIsSet) {
  const auto set_iommu = [&] {
    return container.container().call(program.client(), VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  };
  expect_all_or_nothing([&] { join(); }, set_iommu,
                        [&] {
                          EXPECT_GT(container.info().available, 0U);
                          EXPECT_EQ(group.unset_container(), succeeds);
                          join();
                        });
}

TEST_F(NativeFailing, AGroupJoinsAnother) {
  const auto prepare = [&] {
    join_and_map();
    other.emplace(program.open_group(group_of(edus[1])));
  };
  expect_all_or_nothing(
      prepare, [&] { return set_container(*other); },
      [&] { EXPECT_EQ(other->unset_container(), succeeds); }, &container);
}

TEST_F(NativeFailing, TheLastGroupLeavesAContainer) {
  const std::uint64_t pinned_before = pinned_bytes();
  const auto prepare = [&] {
    EXPECT_EQ(pinned_bytes(), pinned_before);
    join_and_map();
  };
  expect_all_or_nothing(
      prepare, [&] { return call(group, VFIO_GROUP_UNSET_CONTAINER, nullptr); }, prepare,
      &container);
}

TEST_F(NativeFailing, AGroupLeavesItsContainerToAnother) {
  const auto prepare = [&] {
    join_and_map();
    other.emplace(program.open_group(group_of(edus[1])));
    ASSERT_EQ(other->set_container(container), succeeds);
  };
  expect_all_or_nothing(
      prepare, [&] { return call(*other, VFIO_GROUP_UNSET_CONTAINER, nullptr); },
      [&] { EXPECT_EQ(other->set_container(container), succeeds); }, &container);
}

TEST_F(NativeFailing, AGroupSaysItsStatus) {
  vfio_group_status status{.argsz = sizeof(status), .flags = 0};
  expect_all_or_nothing([] {}, [&] { return call(group, VFIO_GROUP_GET_STATUS, &status); },
                        [&] { EXPECT_EQ(status.flags, VFIO_GROUP_FLAGS_VIABLE + 0U); });
}

/// The first edu's group in a container whose IOMMU is set.
class NativeFailingContainer : public Failing<NativeContainerTest> {
protected:
  void TearDown() override {
    close_devices();
    Failing::TearDown();
  }
  void start_over(const Result<long> &done) override {
    if (done && *done > 2)
      Fd{static_cast<int>(*done)}.reset();
    close_devices();
    group.reset();
    container.close();
    container = program.open_container();
    SetUp();
  }
  void close_devices() {
    device.reset();
    apart.reset();
  }

  void map() { ASSERT_EQ(NativeContainerTest::map(some_iova, memory), succeeds); }
  void unmap() {
    ASSERT_EQ(container.unmap_all(), answers(static_cast<std::int64_t>(memory.size().count)));
  }
  Step map_memory() {
    return [this, request = map_request(some_iova, address_of(memory), size_of(memory))] {
      return call(container, VFIO_IOMMU_MAP_DMA, &request);
    };
  }
  Result<long> get_device(GroupFile &file, const legacy::PciDevice &edu) {
    return number_ = call(file, VFIO_GROUP_GET_DEVICE_FD, edu.address.c_str());
  }
  /// Closes the device that the last get_device() gave.
  void close_device() {
    ASSERT_TRUE(number_);
    const legacy::Device opened{legacy::Fd{static_cast<int>(*number_)}};
    // Its BARs may be missing: the kernel opens a device without those that it could not map.
    EXPECT_NE(opened.info().flags & VFIO_DEVICE_FLAGS_PCI, 0U);
  }

  /// Another container, with the group of two.
  struct Apart {
    ContainerFile container;
    GroupFile group;
    Fd device;
  };

  // So large that the page tables need pages of their own, and the kernel's notes as well.
  legacy::Memory memory{legacy::page * 600};
  Fd device; ///< Of the group.
  std::optional<Apart> apart;

private:
  Result<long> number_ = 0;
};

TEST_F(NativeFailingContainer, MemoryIsMapped) {
  expect_all_or_nothing([] {}, map_memory(), [&] { unmap(); }, &container);
}

TEST_F(NativeFailingContainer, MemoryIsMappedAfterTheDeviceWasClosed) {
  const auto open_and_close = [&] { ASSERT_TRUE(group->device(edus[0].address)); };
  may_keep_a_descriptor = true; // The group's anchor: the next attempt needs it as well.
  expect_all_or_nothing(open_and_close, map_memory(), [&] {
    unmap();
    open_and_close();
  });
}

TEST_F(NativeFailingContainer, MemoryIsUnmapped) {
  vfio_iommu_type1_dma_unmap request{};
  expect_all_or_nothing([&] { map(); },
                        [&] {
                          request = unmap_request(some_iova, size_of(memory));
                          return call(container, VFIO_IOMMU_UNMAP_DMA, &request);
                        },
                        [&] {
                          EXPECT_EQ(request.size, memory.size().count);
                          map();
                        },
                        &container);
}

TEST_F(NativeFailingContainer, EverythingIsUnmapped) {
  const legacy::Memory other{legacy::page * 3};
  const auto map_both = [&] {
    map();
    ASSERT_EQ(NativeContainerTest::map(other_iova, other), succeeds);
  };
  vfio_iommu_type1_dma_unmap request{};
  expect_all_or_nothing(
      map_both,
      [&] {
        request = unmap_request(Iova{0}, Bytes{0}, VFIO_DMA_UNMAP_FLAG_ALL);
        return call(container, VFIO_IOMMU_UNMAP_DMA, &request);
      },
      [&] {
        EXPECT_EQ(request.size, memory.size().count + other.size().count);
        map_both();
      },
      &container);
}

TEST_F(NativeFailingContainer, TheIommuSaysItsProperties) {
  struct {
    vfio_iommu_type1_info head{};
    std::array<std::byte, 4096> chain{};
  } info;
  expect_all_or_nothing([] {},
                        [&] {
                          info.head.argsz = sizeof(info);
                          return call(container, VFIO_IOMMU_GET_INFO, &info);
                        },
                        [&] { EXPECT_NE(info.head.cap_offset, 0U); });
}

TEST_F(NativeFailingContainer, ADeviceIsOpened) {
  expect_all_or_nothing([&] { map(); }, [&] { return get_device(*group, edus[0]); },
                        [&] { close_device(); }, &container);
}

TEST_F(NativeFailingContainer, ADeviceIsOpenedTwice) {
  const auto prepare = [&] {
    device = group->device(edus[0].address);
    ASSERT_TRUE(device);
  };
  expect_all_or_nothing(
      prepare, [&] { return get_device(*group, edus[0]); }, [&] { close_device(); });
}

TEST_F(NativeFailingContainer, TheSecondDeviceOfAGroupIsOpened) {
  const auto prepare = [&] {
    ContainerFile file = program.open_container();
    GroupFile two = program.open_group_in(group_of(pair[0]), file);
    apart.emplace(Apart{std::move(file), std::move(two), Fd{}});
    apart->device = apart->group.device(pair[0].address);
    ASSERT_TRUE(apart->device);
  };
  expect_all_or_nothing(
      prepare, [&] { return get_device(apart->group, pair[1]); }, [&] { close_device(); });
}

TEST_F(NativeFailingContainer, AVaddrChanges) {
  const auto renewed =
      map_request(some_iova, address_of(memory), size_of(memory), VFIO_DMA_MAP_FLAG_VADDR);
  const auto invalidate = [&] {
    ASSERT_EQ(container.unmap(some_iova, size_of(memory), VFIO_DMA_UNMAP_FLAG_VADDR),
              answers(static_cast<std::int64_t>(memory.size().count)));
  };
  const auto prepare = [&] {
    map();
    invalidate();
  };
  expect_all_or_nothing(
      prepare, [&] { return call(container, VFIO_IOMMU_MAP_DMA, &renewed); }, invalidate,
      &container);
}

/// A container on the mock IOMMU, which tracks what is written to.
class MockProgram : public testing::Test {
protected:
  static constexpr GroupId first_group{1};

  void SetUp() override {
    auto joined = container.container().join({.id = first_group, .devices = {}}, 0);
    ASSERT_TRUE(joined) << joined.error().describe();
    member = std::move(*joined);
    ASSERT_EQ(container.set_iommu(), succeeds);
    ASSERT_EQ(container.map(MockBackend::aperture, address_of(memory), size_of(memory)), succeeds);
  }
  void TearDown() override {
    if (member)
      container.container().leave(*member);
  }

  vfio_bitmap in(std::vector<std::uint64_t> &bits) {
    return bitmap_argument(address_of(bits.data()), bits.size() * sizeof(bits[0]));
  }

  std::shared_ptr<Membership> member;
  Program program{{.make_backend = [this]() -> Result<std::unique_ptr<Backend>> {
                    auto made = MockBackend::create();
                    if (!made)
                      return pass_on(made);
                    backend = made->get();
                    return std::unique_ptr<Backend>(std::move(*made));
                  }},
                  {}};
  MockBackend *backend = nullptr;
  ContainerFile container = program.open_container();
  legacy::Memory memory{legacy::page * 64};
};

class NativeFailingDirtyTracking : public Failing<MockProgram> {
protected:
  void start_over(const Result<long> & /*done*/) override {
    TearDown();
    container.close();
    container = program.open_container();
    SetUp();
  }
  Step track(std::uint32_t flag) {
    return [this, flag] {
      vfio_iommu_type1_dirty_bitmap request{};
      request.argsz = sizeof(request);
      request.flags = flag;
      return call(container, VFIO_IOMMU_DIRTY_PAGES, &request);
    };
  }
  void start() { ASSERT_EQ(container.track_dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), succeeds); }
  void stop() { ASSERT_EQ(container.track_dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), succeeds); }
  void write() {
    const std::array second_page{MockBackend::aperture + page};
    backend->write(first_group, second_page);
  }
  void expect_reported() {
    EXPECT_NE(bits[0] & 2U, 0U) << "what was written to is never forgotten";
    bits[0] = 0;
  }

  std::vector<std::uint64_t> bits = std::vector<std::uint64_t>(1);
};

TEST_F(NativeFailingDirtyTracking, Starts) {
  expect_all_or_nothing([] {}, track(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), [&] { stop(); },
                        &container);
}

TEST_F(NativeFailingDirtyTracking, Stops) {
  const auto prepare = [&] { start(); };
  expect_all_or_nothing(prepare, track(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), prepare, &container);
}

TEST_F(NativeFailingDirtyTracking, Reports) {
  vfio_iommu_type1_dirty_bitmap head{};
  vfio_iommu_type1_dirty_bitmap_get range{};
  head.argsz = sizeof(head) + sizeof(range);
  head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  range.iova = MockBackend::aperture.value;
  range.size = memory.size().count;
  range.bitmap = in(bits);
  const auto request = joined(head, range);
  const auto prepare = [&] {
    start();
    write();
  };
  expect_all_or_nothing(
      prepare, [&] { return call(container, VFIO_IOMMU_DIRTY_PAGES, request.data()); },
      [&] {
        expect_reported();
        write();
      },
      &container);
}

TEST_F(NativeFailingDirtyTracking, ReportsWhatItUnmaps) {
  auto head =
      unmap_request(MockBackend::aperture, size_of(memory), VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  head.argsz = sizeof(head) + sizeof(vfio_bitmap);
  const auto prepare = [&] {
    start();
    write();
  };
  expect_all_or_nothing(
      prepare,
      [&] {
        auto request = joined(head, in(bits)); // Written to.
        return call(container, VFIO_IOMMU_UNMAP_DMA, request.data());
      },
      [&] {
        expect_reported();
        ASSERT_EQ(container.map(MockBackend::aperture, address_of(memory), size_of(memory)),
                  succeeds);
        write();
      },
      &container);
}

} // namespace
} // namespace vfio_shim::test
