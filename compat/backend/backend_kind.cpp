// SPDX-License-Identifier: MIT
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
  Result<std::unique_ptr<Backend>> (*create)(const topology::Roots &, const BackendNeeds &);
  Result<std::unique_ptr<Backend>> (*adopt)(const topology::Roots &, const BackendNeeds &,
                                            const BackendState &, const BackendTerms &);
};

constexpr std::array<Entry, every_backend.size()> entries = {{
    {BackendKind::iommufd, "iommufd", IommufdBackend::check,
     [](const topology::Roots &roots, const BackendNeeds &needs) {
       return IommufdBackend::create(roots.dev / "iommu", needs);
     },
     IommufdBackend::adopt},
    {BackendKind::type1, "type1", Type1Backend::check, Type1Backend::create, Type1Backend::adopt},
    {BackendKind::kernel_compat, "kernel-compat", KernelCompatBackend::check,
     KernelCompatBackend::create, KernelCompatBackend::adopt},
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
                               const BackendNeeds &needs) {
  return [create = entry_of(kind).create, roots, needs] { return create(roots, needs); };
}

BackendMaker backend_maker(const BackendNeeds &needs) {
  return [needs](Fd iommufd) { return IommufdBackend::create_on(std::move(iommufd), needs); };
}

BackendAdopter backend_adopter(BackendKind kind, const topology::Roots &roots,
                               const BackendNeeds &needs) {
  return [adopt = entry_of(kind).adopt, roots, needs](const BackendState &state,
                                                      const BackendTerms &terms) {
    return adopt(roots, needs, state, terms);
  };
}

} // namespace vfio_shim
