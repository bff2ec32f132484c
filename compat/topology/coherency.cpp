// SPDX-License-Identifier: MIT
#include "topology/coherency.hpp"

#include <cstdint>
#include <fstream>

namespace vfio_shim::topology {

namespace {

/// "Snoop Control" in the extended capabilities of Intel's IOMMUs.
constexpr std::uint64_t snoop_control = std::uint64_t{1} << 7U;

} // namespace

/// The kernel's rule is IOMMU_CAP_ENFORCE_CACHE_COHERENCY: AMD's do always, Intel's may.
bool enforces_coherency(const std::string &name, const Roots &roots) {
  const std::filesystem::path iommu = roots.sys / "bus/pci/devices" / name / "iommu";
  std::error_code error;
  if (std::filesystem::exists(iommu / "amd-iommu", error))
    return true;
  std::uint64_t capabilities = 0;
  std::ifstream file(iommu / "intel-iommu/ecap");
  return (file >> std::hex >> capabilities) && (capabilities & snoop_control) != 0;
}

} // namespace vfio_shim::topology
