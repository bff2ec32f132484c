// SPDX-License-Identifier: MIT
/// @file
/// Which call of one recording is which call of another.
#pragma once

#include "observe/trace_reader.hpp"

#include <string>
#include <vector>

namespace vfio_shim::cli {

/// Two recordings of the same program, call by call.
struct Alignment {
  using Record = observe::trace::Record;

  /// The same call in both.
  struct Pair {
    const Record *one;
    const Record *other;
  };

  std::vector<Pair> pairs;              ///< In the order of the first recording.
  std::vector<const Record *> only_one; ///< Calls without a counterpart.
  std::vector<const Record *> only_other;
};

/// Aligns two recordings, which must outlive the result.
///
/// Files are paired by what they are and in the order in which they were opened: the second opening
/// of group 5 with the second one. On each pair of files, calls are the same that ask for the same:
/// the same ioctl, flags, IOVA range, device name, extension. Addresses, descriptors and process
/// ids play no part: they differ from run to run. What is left over when the order of both is kept
/// has no counterpart.
Alignment align(const observe::Recording &one, const observe::Recording &other);

/// What a call asks for, as far as it must be the same in two runs: "VFIO_IOMMU_MAP_DMA 3 0 1000".
std::string question_of(const observe::trace::Record &record);

} // namespace vfio_shim::cli
