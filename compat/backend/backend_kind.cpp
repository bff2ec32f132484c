#include "vfio_shim/backend_kind.hpp"

#include "backend/iommufd.hpp"
#include "backend/kernel_compat.hpp"
#include "backend/type1.hpp"

#include <algorithm>

namespace vfio_shim {

namespace {

/// What tells one backend from another.
struct Entry {
  BackendKind kind;
  std::string_view name;
  Result<void> (*check)(const topology::Roots &);
  Result<std::unique_ptr<Backend>> (*create)(const topology::Roots &,
                                             const std::shared_ptr<DeviceMemory> &);
};

constexpr std::array<Entry, every_backend.size()> entries = {{
    {BackendKind::iommufd, "iommufd", IommufdBackend::check,
     [](const topology::Roots &roots, const std::shared_ptr<DeviceMemory> &device_memory) {
       return IommufdBackend::create(roots.dev / "iommu", device_memory);
     }},
    {BackendKind::type1, "type1", Type1Backend::check,
     [](const topology::Roots &roots, const std::shared_ptr<DeviceMemory> & /*device_memory*/) {
       return Type1Backend::create(roots);
     }},
    {BackendKind::kernel_compat, "kernel-compat", KernelCompatBackend::check,
     [](const topology::Roots &roots, const std::shared_ptr<DeviceMemory> & /*device_memory*/) {
       return KernelCompatBackend::create(roots);
     }},
}};

const Entry &entry_of(BackendKind kind) {
  return *std::ranges::find(entries, kind, &Entry::kind);
}

} // namespace

std::string_view backend_name(BackendKind kind) {
  return entry_of(kind).name;
}

std::optional<BackendKind> backend_named(std::string_view name) {
  const auto *const found = std::ranges::find(entries, name, &Entry::name);
  return found == entries.end() ? std::nullopt : std::optional(found->kind);
}

Result<void> check_backend(BackendKind kind, const topology::Roots &roots) {
  return entry_of(kind).check(roots);
}

BackendFactory backend_factory(BackendKind kind, const topology::Roots &roots,
                               std::shared_ptr<DeviceMemory> device_memory) {
  return [create = entry_of(kind).create, roots, device_memory = std::move(device_memory)] {
    return create(roots, device_memory);
  };
}

} // namespace vfio_shim
