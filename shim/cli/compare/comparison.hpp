// SPDX-License-Identifier: MIT
/// @file
/// What differs between recordings of the same program on several backends.
#pragma once

#include "observe/trace_reader.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// One backend's turn.
struct Turn {
  std::string name; ///< "iommufd".
  observe::Recording recording;
  int exit_status = 0; ///< The command's own.
};

/// One ioctl on one backend. Times in nanoseconds, from when a call was received to its answer.
struct Figures {
  std::uint64_t count = 0;
  std::uint64_t errors = 0;
  std::uint64_t p50 = 0;
  std::uint64_t p99 = 0;
  std::uint64_t total = 0;
  double ratio = 0; ///< The mean time against the first backend's; 0: one of them has no such call.
};

/// One ioctl on all backends.
struct Operation {
  std::string name;
  std::vector<Figures> figures; ///< One per turn.
};

/// A call that one backend answered otherwise than the first.
struct Divergence {
  std::string call;           ///< "VFIO_IOMMU_MAP_DMA".
  std::string file;           ///< "container 1".
  std::string argument;       ///< "iova 0x0, 4 KiB at 0x7f0000000000, rw".
  std::string memory;         ///< "4 KiB anonymous".
  std::uint64_t sequence = 0; ///< Of the call in the recording that has it; the first, if both.
  std::string backend;        ///< The other one's name.
  std::string expected;       ///< What the first backend answered: "0"; "not called".
  std::string found;          ///< What this one answered.
};

struct Comparison {
  std::vector<std::string> backends;
  std::vector<Operation> operations; ///< By total time on the first backend, most first.
  std::vector<Divergence> divergences;
  /// Calls that one run made more often than the other, per backend: polls and retries. Not a
  /// divergence: the same question has the same answers in both.
  std::vector<std::uint64_t> repeated;

  bool same() const { return divergences.empty(); }
};

/// A divergence that came several times: the same question, the same answers.
struct DistinctDivergence {
  const Divergence *first = nullptr;
  std::size_t times = 0;
};

/// The divergences by what they are about, in the order in which they came first. They point into
/// @p comparison.
std::vector<DistinctDivergence> distinct_divergences(const Comparison &comparison);

/// Compares each turn with the first. @param turns At least one.
///
/// Answers are the same if errno, value and what was written back are (descriptor numbers and
/// addresses aside).
Comparison compare(const std::vector<Turn> &turns);

} // namespace vfio_shim::cli
