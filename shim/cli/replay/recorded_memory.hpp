// SPDX-License-Identifier: MIT
/// @file
/// Memory of the shape that a recorded program had.
#pragma once

#include "observe/trace_reader.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <map>
#include <vector>

namespace vfio_shim::cli {

/// Stands for the memory that recorded programs mapped for DMA: of the same kinds and sizes, at
/// addresses of the same alignment, and what lay side by side or overlapped does so again.
///
/// What could not be mapped then cannot be now: it is made unreadable, or read-only. What it cannot
/// be: a device's memory (a BAR), which is left out, so that mapping it fails; and pages that the
/// program had touched, for a recording does not tell which.
class RecordedMemory {
public:
  /// Reserves address space for all of it.
  /// @return ENOMEM with a line for people.
  static Result<RecordedMemory> reserve(const observe::Recording &recording);

  RecordedMemory(RecordedMemory &&) = default;
  RecordedMemory(const RecordedMemory &) = delete;
  RecordedMemory &operator=(const RecordedMemory &) = delete;
  RecordedMemory &operator=(RecordedMemory &&) = delete;
  ~RecordedMemory();

  /// Puts the memory there that a recorded VFIO_IOMMU_MAP_DMA is about.
  /// @return An error with a line for people: no huge pages, for example.
  Result<void> provide(const observe::trace::Record &record);

  /// The address here for what was @p address in the recorded process; the same if nothing is known
  /// of it.
  std::uint64_t address_of(Pid process, std::uint64_t address) const;

private:
  /// A run of the recorded process's addresses, [first, end), without gaps.
  struct Arena {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
    std::uint64_t here = 0; ///< Where `first` is in this process.
    std::uint64_t reserved = 0;
    std::uint64_t reserved_size = 0;
  };

  /// What lies somewhere in an arena.
  struct Content {
    observe::trace::Memory memory{};
    int protection = 0;

    bool operator==(const Content &other) const;
  };

  RecordedMemory() = default;
  const Arena *find(Pid process, std::uint64_t address) const;
  static Result<void> place(Arena &arena);

  std::map<Pid, std::vector<Arena>> arenas_;
  std::map<std::uint64_t, Content> there_; ///< By address here.
};

} // namespace vfio_shim::cli
