// SPDX-License-Identifier: MIT
#include "storm.h"

#include "client/memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "own_state.h"
#include "patience.h"
#include "suite.h"

namespace legacy {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Of a place: where memory is mapped and unmapped without a look,
constexpr Bytes passing{0};
/// where it is looked into,
constexpr Bytes inspected = 16_MiB;
/// and where another device's memory is.
constexpr Bytes foreign = 32_MiB;

constexpr Answer answers_with_the_version = legacy::answers(VFIO_API_VERSION);

constexpr std::array kinds{MemoryKind::Anonymous, MemoryKind::MemfdShared,
                           MemoryKind::HugetlbShared, MemoryKind::HugetlbAnonymous};

/// Maps all of these one after the other, and unmaps them again.
class Passing {
public:
  explicit Passing(const StormPlace &place) : place_{place} {}

  void map_and_unmap() const {
    map(0, small_);
    map(1, shared_);
    map(2, huge_);
    EXPECT_EQ(place_.container.map(at(0), small_), fails(EEXIST));
    EXPECT_EQ(place_.container.unmap(at(1), stride), unmaps(shared_.size()));
    EXPECT_EQ(place_.container.unmap(at(0), stride * 3), unmaps(small_.size() + huge_.size()));
  }

private:
  static constexpr Bytes stride = 4_MiB;

  Iova at(std::uint64_t number) const { return place_.start + passing + stride * number; }
  void map(std::uint64_t number, const Memory &memory) const {
    EXPECT_EQ(place_.container.map(at(number), memory), succeeds);
  }

  const StormPlace &place_;
  const Memory small_{page * 16};
  const Memory shared_ = Memory::allocate(MemoryKind::MemfdShared, 1_MiB);
  const Memory huge_ = Memory::allocate(MemoryKind::HugetlbShared, huge_page);
};

/// Has the device copy the start of new memory to its end.
void inspect(const StormPlace &place, MemoryKind kind, std::uint32_t seed) {
  const Iova iova = place.start + inspected;
  const Memory memory = Memory::allocate(kind, huge_page);
  const Bytes end = memory.size() - page;
  memory.fill({0}, Edu::largest_transfer, seed);
  ASSERT_EQ(place.container.map(iova, memory), succeeds);
  copy_by_dma(place.edu, iova, iova + end);
  EXPECT_TRUE(memory.holds(end, Edu::largest_transfer, seed)) << kind;
  EXPECT_EQ(place.container.unmap(iova, memory.size()), unmaps(memory.size()));
}

/// Has the device copy memory to another device's.
void inspect_peer(const StormPlace &place, std::uint32_t seed) {
  const Iova from = place.start + inspected, to = place.start + foreign;
  const Memory memory{page};
  memory.fill({0}, page, seed);
  std::memset(place.peer->data(), 0, page.count);
  ASSERT_EQ(place.container.map(from, memory), succeeds);
  ASSERT_EQ(place.container.map(to, place.peer->data(), place.peer->size()), succeeds);
  copy_by_dma(place.edu, from, to);
  EXPECT_EQ(std::memcmp(place.peer->data(), memory.data(), Edu::largest_transfer.count), 0);
  EXPECT_EQ(place.container.unmap(to, place.peer->size()), unmaps(place.peer->size()));
  EXPECT_EQ(place.container.unmap(from, page), unmaps(page));
}

void inspect_one_after_the_other(const StormPlace &place, const std::stop_token &stop) {
  const std::uint64_t mask = blocked_signals();
  const std::size_t inspections = kinds.size() + (place.peer != nullptr ? 1 : 0);
  for (std::uint32_t round = 0; !stop.stop_requested() && !testing::Test::HasFailure(); ++round) {
    const std::size_t number = round % inspections;
    if (number < kinds.size())
      inspect(place, kinds.at(number), round);
    else
      inspect_peer(place, round);
  }
  EXPECT_EQ(blocked_signals(), mask);
}

} // namespace

void storm(const StormPlace &place, const std::function<bool()> &is_over) {
  const Passing memory{place};
  memory.map_and_unmap(); // What a first map leaves in a process is no news then.
  const OwnState before = OwnState::now();
  {
    const std::jthread inspector{
        [&](const std::stop_token &stop) { inspect_one_after_the_other(place, stop); }};
    while (!is_over() && !testing::Test::HasFailure()) {
      memory.map_and_unmap();
      std::this_thread::sleep_for(1ms); // There are few CPUs, and others to be heard.
    }
  }
  EXPECT_TRUE(is_as_before(before));
  EXPECT_EQ(place.container.unmap(place.start, StormPlace::size), unmaps({0})) << "is left";
  EXPECT_TRUE(nothing_is_pinned());
}

StormClient::StormClient(const std::function<void(const IsOver &)> &life)
    : child_{[&] { life([&] { return over_.await(0s); }); }} {}

bool StormClient::has_ended() const {
  return child_.ends_within(0ms);
}

testing::AssertionResult StormClient::end() {
  over_.announce();
  return child_.wait();
}

Heartbeat::Heartbeat(const Provider &provider)
    : container_{provider}, thread_{[this](const std::stop_token &stop) { beat(stop); }} {}

std::chrono::milliseconds Heartbeat::longest_gap() {
  // The first of these answers may be that of a call from before.
  const int enough = answers() + 2;
  if (!within(Child::default_patience, [&] { return answers() >= enough; }))
    throw std::runtime_error{"the small calls are not answered any more"};
  const std::lock_guard lock{mutex_};
  return std::chrono::duration_cast<std::chrono::milliseconds>(
      std::exchange(longest_, Clock::duration::zero()));
}

void Heartbeat::beat(const std::stop_token &stop) {
  for (auto last = Clock::now(); !stop.stop_requested();) {
    EXPECT_EQ(container_.api_version(), answers_with_the_version);
    const auto now = Clock::now();
    note_gap(now - last);
    last = now;
    std::this_thread::sleep_for(1ms);
  }
}

void Heartbeat::note_gap(Clock::duration gap) {
  const std::lock_guard lock{mutex_};
  longest_ = std::max(longest_, gap);
  ++answers_;
}

int Heartbeat::answers() {
  const std::lock_guard lock{mutex_};
  return answers_;
}

} // namespace legacy
