// SPDX-License-Identifier: MIT
/// @file
/// What must be back where it was when nobody is left.
#pragma once

#include "client/provider.h"
#include "client/topology.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon.hpp"

namespace chaos {

/// Figures of a machine in which nobody uses VFIO: the daemon's descriptors by kind, its threads
/// and memory; pinned pages; huge pages in use; entries in the page tables of each device; nodes
/// missing.
class Accounts {
public:
  /// Where the figures come from.
  struct Source {
    const legacy::Provider &provider;
    const std::vector<legacy::PciDevice> &devices;
    std::optional<Daemon> daemon;
    long memory_tolerance_kib;
  };

  static Accounts take(const Source &source);

  /// A line for each figure that is higher than @p before, by more than is natural.
  std::vector<std::string> excess_over(const Accounts &before) const;
  /// The daemon's, for the report.
  std::string summary() const;

private:
  struct Figure {
    long value;
    long tolerance;
  };

  void note(const std::string &name, long value, long tolerance = 0);

  std::map<std::string, Figure> figures_;
};

} // namespace chaos
