// SPDX-License-Identifier: MIT
/// @file
/// IOVAs that one thread has for itself, and what must be mapped there.
#pragma once

#include "client/container.h"
#include "client/memory.h"
#include "client/provider.h"

#include <array>
#include <optional>

#include "random.hpp"
#include "witness.hpp"

namespace chaos {

/// Maps and unmaps memory of all kinds at random, right and wrong, and knows what must come of it.
class Lane {
public:
  enum class Kinds { all, without_huge_pages, private_only };

  /// @p number: which lane of its container, below `count`.
  Lane(Witness &witness, const legacy::Container &container, const legacy::Provider &provider,
       int number, Random random, Kinds kinds);

  static constexpr int count = 12;
  static legacy::Iova start_of(int number);
  /// Behind all lanes, and within the reach of an edu.
  static constexpr legacy::Iova behind_all{240ull << 20};

  /// One call, or a few.
  void step();
  void unmap_everything();

private:
  /// Where one mapping can be.
  struct Spot {
    legacy::Iova iova;
    legacy::Bytes size{}; ///< Of what is mapped; 0 if nothing is.
    std::optional<legacy::Memory> memory;
  };

  void map_something(Spot &spot);
  void map_again(const Spot &spot);
  void map_without_access(const Spot &spot);
  void map_askew(const Spot &spot);
  void unmap(Spot &spot);
  void unmap_part(const Spot &spot);
  void unmap_nothing(const Spot &spot);

  Witness &witness_;
  const legacy::Container &container_;
  const legacy::Provider &provider_;
  Random random_;
  Kinds kinds_;
  std::array<Spot, 4> spots_;
};

/// The calls that are excused alike for memory of this kind.
CallKind call_mapping(legacy::MemoryKind kind);

} // namespace chaos
