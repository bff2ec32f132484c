// SPDX-License-Identifier: MIT
/// @file
/// Whether a device can get past the CPU's caches.
#pragma once

#include "vfio_shim/topology.hpp"

#include <string>

namespace vfio_shim::topology {

/// Whether the IOMMU of the PCI device @p name makes all its DMA honour the CPU's caches, even what
/// the device asks to be excepted (PCIe's No Snoop). No, if it cannot be told.
bool enforces_coherency(const std::string &name, const Roots &roots = {});

} // namespace vfio_shim::topology
