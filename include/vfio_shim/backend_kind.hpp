// SPDX-License-Identifier: MIT
/// @file
/// Which backends there are, and which of them this kernel has.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace vfio_shim {

class DeviceMemory;

/// Where a container's mappings can go.
enum class BackendKind : std::uint8_t {
  iommufd,       ///< An IOAS of iommufd, devices through their cdevs.
  type1,         ///< A container of the kernel's own VFIO, with its type1 driver.
  kernel_compat, ///< iommufd's own translation of the legacy ioctls, on /dev/iommu.
};

/// All of them, in the order in which they are compared.
inline constexpr std::array every_backend = {BackendKind::iommufd, BackendKind::type1,
                                             BackendKind::kernel_compat};

/// "iommufd", "type1", "kernel-compat".
std::string_view backend_name(BackendKind kind);

/// The backend of that name.
std::optional<BackendKind> backend_named(std::string_view name);

/// Whether the running kernel has the backend. Must not be asked by a process that serves
/// `/dev/vfio/vfio` itself.
/// @return An error whose `where` is one line for people: what is missing, and the kernel options
///         that bring it.
Result<void> check_backend(BackendKind kind, const topology::Roots &roots = {});

/// The surroundings of backends, from the program that makes them.
struct BackendNeeds {
  /// Notes the devices that are handed out, and finds those whose memory is to be mapped;
  /// may be none.
  std::shared_ptr<DeviceMemory> device_memory{};
  /// Keeps what is to outlive this process.
  std::shared_ptr<FileStore> store = std::make_shared<FileStore>();
};

/// Makes backends of that kind.
BackendFactory backend_factory(BackendKind kind, const topology::Roots &roots = {},
                               const BackendNeeds &needs = {});

/// Makes backends on iommufds of clients.
BackendMaker backend_maker(const BackendNeeds &needs = {});

/// Takes backends of that kind over.
BackendAdopter backend_adopter(BackendKind kind, const topology::Roots &roots = {},
                               const BackendNeeds &needs = {});

} // namespace vfio_shim
