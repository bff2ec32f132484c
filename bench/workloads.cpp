// SPDX-License-Identifier: MIT
#include "workloads.h"

#include "client/client.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include <fmt/format.h>

namespace bench {
namespace {

using namespace legacy;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::duration<double, std::micro>;

// Where the measured mapping goes, and where the live ones are, which lie around it.
constexpr Iova measured_iova{0x4'0000'0000};
constexpr Iova live_iova{0x1'0000'0000};
constexpr Bytes live_distance = page * 2;

// One turn of a provider: at least a few calls, and enough of them to be worth attaching for.
constexpr unsigned fewest_calls = 3;
constexpr unsigned most_calls = 200;
constexpr auto turn = 25ms;

constexpr unsigned calls_with_live_mappings = 200;

/// How long `call` takes; throws std::system_error unless it answers `wanted`.
template <typename Call>
double time_of(const char *what, Answer wanted, const Call &call) {
  const auto start = Clock::now();
  const Answer answer = call();
  const Microseconds elapsed = Clock::now() - start;
  if (answer != wanted)
    throw std::runtime_error{fmt::format("{}: {}, expected: {}", what, legacy::to_string(answer),
                                         legacy::to_string(wanted))};
  return elapsed.count();
}

double timed_map(const Container &container, Iova iova, const void *vaddr, Bytes size) {
  return time_of("map", succeeds, [&] { return container.map(iova, vaddr, size); });
}

double timed_unmap(const Container &container, Iova iova, Bytes size) {
  return time_of("unmap", unmaps(size), [&] { return container.unmap(iova, size); });
}

std::string size_name(Bytes size) {
  return size < 1_MiB ? fmt::format("{} KiB", size.count >> 10)
                      : fmt::format("{} MiB", size.count >> 20);
}

/// Gives every provider its turn, round after round.
template <typename Turn>
void in_rounds(const Plan &plan, unsigned rounds, const Turn &take_turn) {
  for (unsigned round = 0; round < rounds; ++round)
    for (const Provider &provider : plan.providers)
      take_turn(provider, Client{provider, plan.device});
}

void measure_api_version(const Plan &plan, Measurements &into) {
  constexpr unsigned batches = 20, batch = 50;
  in_rounds(plan, plan.rounds, [&](const Provider &provider, const Client &client) {
    Samples &samples = into.of("API_VERSION", provider.name);
    for (unsigned i = 0; i < batches; ++i) {
      const auto start = Clock::now();
      for (unsigned call = 0; call < batch; ++call)
        client.container.api_version().or_throw("VFIO_GET_API_VERSION");
      samples.add(Microseconds{Clock::now() - start}.count() / batch);
    }
  });
}

void measure_map_and_unmap(const Plan &plan, MemoryKind kind, Bytes size, Measurements &into) {
  const bool in_huge_pages = needs_huge_pages(kind) || kind == MemoryKind::AnonymousHuge;
  const Memory memory = Memory::allocate(kind, in_huge_pages ? std::max(size, huge_page) : size);
  in_rounds(plan, plan.rounds, [&](const Provider &provider, const Client &client) {
    const auto end = Clock::now() + turn;
    for (unsigned i = 0; i < fewest_calls || (i < most_calls && Clock::now() < end); ++i) {
      into.of(map_name(kind, size), provider.name)
          .add(timed_map(client.container, measured_iova, memory.data(), size));
      into.of(unmap_name(kind, size), provider.name)
          .add(timed_unmap(client.container, measured_iova, size));
    }
  });
}

void measure_with_live_mappings(const Plan &plan, Measurements &into) {
  const Memory live = Memory::allocate(MemoryKind::MemfdShared, page);
  const std::vector<Memory> measured = [] {
    std::vector<Memory> memories;
    for (const MemoryKind kind : {MemoryKind::Anonymous, MemoryKind::MemfdShared})
      memories.push_back(Memory::allocate(kind, page));
    return memories;
  }();
  const auto measure = [&](const Provider &provider, const Container &container, MemoryKind kind,
                           const Memory &memory, unsigned count) {
    for (unsigned i = 0; i < calls_with_live_mappings; ++i) {
      into.of(live_map_name(kind, count), provider.name)
          .add(timed_map(container, measured_iova, memory.data(), page));
      into.of(live_unmap_name(kind, count), provider.name)
          .add(timed_unmap(container, measured_iova, page));
    }
  };
  in_rounds(plan, plan.live_rounds, [&](const Provider &provider, const Client &client) {
    unsigned count = 0;
    for (const unsigned wanted : plan.live_mappings) {
      for (; count < wanted; ++count)
        timed_map(client.container, live_iova + live_distance * count, live.data(), page);
      measure(provider, client.container, MemoryKind::Anonymous, measured[0], count);
      measure(provider, client.container, MemoryKind::MemfdShared, measured[1], count);
    }
    into.of(fmt::format("unmap all of {}", count), provider.name)
        .add(time_of("unmap all", unmaps(page * count),
                     [&] { return client.container.unmap_all(); }));
  });
}

/// One round of small calls.
void measure_small_calls(const std::string &provider, const Container &container,
                         const std::vector<std::pair<MemoryKind, const void *>> &memories,
                         Measurements &into) {
  const auto start = Clock::now();
  container.api_version().or_throw("VFIO_GET_API_VERSION");
  into.of("API_VERSION", provider).add(Microseconds{Clock::now() - start}.count());
  for (const auto &[kind, memory] : memories) {
    into.of(map_name(kind, page), provider).add(timed_map(container, measured_iova, memory, page));
    into.of(unmap_name(kind, page), provider).add(timed_unmap(container, measured_iova, page));
  }
}

} // namespace

std::string map_name(MemoryKind kind, Bytes size) {
  return fmt::format("map {} {}", size_name(size), legacy::to_string(kind));
}

std::string unmap_name(MemoryKind kind, Bytes size) {
  return "un" + map_name(kind, size);
}

std::string live_map_name(MemoryKind kind, unsigned live) {
  return fmt::format("map 4 KiB {} beside {}", legacy::to_string(kind), live);
}

std::string live_unmap_name(MemoryKind kind, unsigned live) {
  return "un" + live_map_name(kind, live);
}

Measurements run(const Plan &plan) {
  Measurements measurements;
  plan.progress("API_VERSION");
  measure_api_version(plan, measurements);
  for (const MemoryKind kind : plan.kinds)
    for (const Bytes size : plan.sizes) {
      plan.progress(map_name(kind, size));
      measure_map_and_unmap(plan, kind, size, measurements);
    }
  if (!plan.live_mappings.empty()) {
    plan.progress(fmt::format("up to {} live mappings", plan.live_mappings.back()));
    measure_with_live_mappings(plan, measurements);
  }
  return measurements;
}

Measurements run_stress(const Plan &plan, unsigned pages) {
  const Memory memory = Memory::allocate(MemoryKind::Anonymous, page * pages);
  std::vector<unsigned> order(pages);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), std::minstd_rand{}); // The same for everybody.
  Measurements measurements;
  plan.progress(fmt::format("{} mappings", pages));
  in_rounds(plan, plan.rounds, [&](const Provider &provider, const Client &client) {
    const auto iova_of = [](unsigned n) { return live_iova + live_distance * n; };
    auto start = Clock::now();
    for (unsigned n = 0; n < pages; ++n)
      timed_map(client.container, iova_of(n), memory.at(page * n), page);
    measurements.of(fmt::format("map, one of {}", pages), provider.name)
        .add(Microseconds{Clock::now() - start}.count() / pages);
    start = Clock::now();
    for (const unsigned n : order)
      timed_unmap(client.container, iova_of(n), page);
    measurements.of(fmt::format("unmap, one of {} in random order", pages), provider.name)
        .add(Microseconds{Clock::now() - start}.count() / pages);
  });
  return measurements;
}

Measurements run_call_by_call(const Plan &plan, const PciDevice &second_device) {
  const Memory anonymous = Memory::allocate(MemoryKind::Anonymous, page);
  const Memory memfd = Memory::allocate(MemoryKind::MemfdShared, page);
  const std::vector<std::pair<MemoryKind, const void *>> memories{
      {MemoryKind::Anonymous, anonymous.data()}, {MemoryKind::MemfdShared, memfd.data()}};
  const Provider &first = plan.providers.at(0), &second = plan.providers.at(1);
  const Client one{first, plan.device}, other{second, second_device};
  Measurements measurements;
  for (unsigned round = 0; round < plan.rounds; ++round) {
    const bool first_leads = round % 2 == 0;
    if (first_leads)
      measure_small_calls(first.name, one.container, memories, measurements);
    measure_small_calls(second.name, other.container, memories, measurements);
    if (!first_leads)
      measure_small_calls(first.name, one.container, memories, measurements);
  }
  return measurements;
}

} // namespace bench
