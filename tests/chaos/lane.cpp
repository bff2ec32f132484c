// SPDX-License-Identifier: MIT
#include "lane.hpp"

#include <cerrno>

#include <sys/mman.h>

#include "known_differences.h"
#include "text.hpp"

namespace chaos {

using namespace legacy;

namespace {

constexpr Bytes lane_size = 16_MiB;
constexpr Bytes spot_size = 4_MiB;

std::string where(const char *what, Iova iova, Bytes size) {
  return text("%s [0x%llx, +0x%llx)", what, static_cast<unsigned long long>(iova.address),
              static_cast<unsigned long long>(size.count));
}

MemoryKind some_kind(Random &random, Lane::Kinds kinds) {
  if (kinds == Lane::Kinds::private_only)
    return MemoryKind::Anonymous;
  const auto dice = random.below(100);
  const bool huge_pages = kinds == Lane::Kinds::all;
  if (dice < 40)
    return MemoryKind::Anonymous;
  if (dice < 50)
    return MemoryKind::AnonymousHuge;
  if (dice < 70)
    return MemoryKind::MemfdShared;
  if (dice < 78)
    return MemoryKind::MemfdPrivate;
  if (dice < 84)
    return MemoryKind::AnonymousShared;
  if (dice < 90)
    return MemoryKind::ShmemFile;
  if (dice < 96)
    return huge_pages ? MemoryKind::HugetlbShared : MemoryKind::Anonymous;
  return huge_pages ? MemoryKind::HugetlbAnonymous : MemoryKind::MemfdShared;
}

Bytes some_size(Random &random, MemoryKind kind) {
  if (needs_huge_pages(kind) || kind == MemoryKind::AnonymousHuge)
    return huge_page;
  return page * random.between(1, 48);
}

Access some_access(Random &random) {
  return random.chance(80) ? Access::ReadWrite : Access::Read;
}

} // namespace

CallKind call_mapping(MemoryKind kind) {
  switch (kind) {
  case MemoryKind::AnonymousShared:
  case MemoryKind::HugetlbShared:
  case MemoryKind::MemfdShared:
  case MemoryKind::ShmemFile:
    return CallKind::map_shared;
  default:
    return CallKind::map_private;
  }
}

Iova Lane::start_of(int number) {
  return Iova{lane_size.count * static_cast<std::uint64_t>(number + 1)};
}

Lane::Lane(Witness &witness, const Container &container, const Provider &provider, int number,
           Random random, Kinds kinds)
    : witness_(witness),
      container_(container),
      provider_(provider),
      random_(random),
      kinds_(kinds) {
  Iova next = start_of(number);
  for (Spot &spot : spots_) {
    spot.iova = next;
    next = next + spot_size;
  }
}

void Lane::step() {
  Spot &spot = spots_[random_.below(spots_.size())];
  const auto dice = random_.below(100);
  if (spot.size.count == 0) {
    if (dice < 78)
      map_something(spot);
    else if (dice < 86)
      unmap_nothing(spot);
    else if (dice < 94)
      map_without_access(spot);
    else
      map_askew(spot);
    return;
  }
  if (dice < 62)
    unmap(spot);
  else if (dice < 76)
    map_again(spot);
  else if (dice < 86)
    unmap_part(spot);
  else if (dice < 92)
    spot.memory.reset(); // The mapping stays.
  else {
    unmap(spot);
    map_something(spot);
  }
}

void Lane::unmap_everything() {
  for (Spot &spot : spots_)
    if (spot.size.count != 0)
      unmap(spot);
}

void Lane::map_something(Spot &spot) {
  if (spot.size.count != 0)
    return;
  const MemoryKind kind = some_kind(random_, kinds_);
  const Bytes size = some_size(random_, kind);
  const Access access = some_access(random_);
  spot.memory.reset();
  witness_.say("allocate " + to_string(kind));
  spot.memory = Memory::allocate(kind, size);
  const Answer answer =
      witness_.must(call_mapping(kind), where(("map " + to_string(kind)).c_str(), spot.iova, size),
                    succeeds, [&] { return container_.map(spot.iova, *spot.memory, access); });
  if (answer == succeeds)
    spot.size = size;
}

void Lane::map_again(const Spot &spot) {
  const Memory memory{page};
  witness_.must(CallKind::map_private, where("map again", spot.iova, page), fails(EEXIST),
                [&] { return container_.map(spot.iova, memory); });
}

void Lane::map_without_access(const Spot &spot) {
  const Memory memory{page};
  memory.protect({0}, page, PROT_NONE);
  witness_.must(CallKind::map_private, where("map without access", spot.iova, page), fails(EFAULT),
                [&] { return container_.map(spot.iova, memory); });
}

void Lane::map_askew(const Spot &spot) {
  const Memory memory{page * 2};
  witness_.must(CallKind::map_private, where("map askew", spot.iova, page), fails(EINVAL),
                [&] { return container_.map(spot.iova, memory.data() + 8, page); });
}

void Lane::unmap(Spot &spot) {
  // A refusal that is excused leaves the mapping there.
  witness_.must_in_the_end(CallKind::unmap, where("unmap", spot.iova, spot.size), unmaps(spot.size),
                           [&] { return container_.unmap(spot.iova, spot.size); });
  spot.size = {};
  spot.memory.reset();
}

void Lane::unmap_part(const Spot &spot) {
  if (spot.size == page)
    return;
  const Answer right = expected(provider_, Behaviour::UnmapCuttingAMapping, fails(EINVAL));
  witness_.must(CallKind::unmap, where("unmap a part", spot.iova, page), right,
                [&] { return container_.unmap(spot.iova, page); });
}

void Lane::unmap_nothing(const Spot &spot) {
  witness_.must(CallKind::unmap, where("unmap nothing", spot.iova, spot_size), unmaps({0}),
                [&] { return container_.unmap(spot.iova, spot_size); });
}

} // namespace chaos
